"""What the catalogue's facts add to public prices: fees of tools and tiers, each with where and when it was read."""

from __future__ import annotations

import re

import pytest

from tollway.core.billing.meters import METERS
from tollway.core.billing.rates import parse_key, tiers_of
from tollway.flows.admin.public_models import PublicModel, shipped

DOLLAR = 1000 * 10**12
"""A dollar for one use, as a rate."""


def row(provider: str, name: str) -> PublicModel:
    [found] = [one for one in shipped().models if (one.provider, one.id) == (provider, name)]
    return found


@pytest.mark.parametrize(
    ("provider", "name", "key", "usd"),
    [
        ("openai", "gpt-5", "web_search", "0.01"),
        ("openai", "gpt-5", "file_search", "0.0025"),
        ("openai", "gpt-5", "code_session", "0.03"),
        ("openai", "gpt-5", "code_session:64g", "1.92"),
        ("openai", "gpt-4.1", "web_search:preview", "0.025"),
        ("anthropic", "claude-opus-4-5", "web_search", "0.01"),
        # Google sells Gemini 2.5's searches by the call that made any, and later models' one by one.
        ("google", "gemini-2.5-pro", "grounded", "0.035"),
        ("google", "gemini-2.5-pro", "map_search", "0.025"),
        ("google", "gemini-3.5-flash", "web_search", "0.014"),
    ],
)
def test_tools_have_fees(provider, name, key, usd):
    whole, _, rest = usd.partition(".")
    assert row(provider, name).rates[key] == int(whole) * DOLLAR + int(rest) * DOLLAR // 10 ** len(rest)


def test_a_search_is_sold_in_one_way():
    for one in shipped().models:
        assert not {"grounded", "web_search"} <= one.rates.keys(), one.id


def test_tiers_multiply_every_token_rate_or_have_prices_of_their_own():
    opus = row("anthropic", "claude-opus-5").rates
    assert tiers_of(opus) == ("fast", "fast-us", "us")
    plain = {
        key: rate for key, rate in opus.items() if METERS[key.partition(":")[0]].by_size and ":" not in key
    }
    assert len(plain) == 5
    for key, rate in plain.items():
        # 1.1 times, twice, and both
        assert [opus[f"{key}:{tier}"] * 10 for tier in ("us", "fast", "fast-us")] == [
            rate * 11,
            rate * 20,
            rate * 22,
        ]
    haiku = row("anthropic", "claude-haiku-5-5").rates
    assert haiku["output:us@100000"] * 10 == haiku["output@100000"] * 11
    gpt = row("openai", "gpt-5.4").rates
    assert [gpt[f"{key}:priority"] for key in ("input", "cache_read", "output")] == [
        5_000_000_000, 500_000_000, 30_000_000_000,
    ]  # fmt: skip


def test_every_fee_and_tier_that_was_added_says_where_and_when_it_was_read():
    for one in shipped().models:
        added = [f"tier {tier}" for tier in tiers_of(one.rates)]
        added += [key for key in one.rates if parse_key(key).meter in ("code_session", "map_search")]
        for what in added:
            assert re.search(rf"{re.escape(what)}[^;]*: https://[^;]+ \(2026-\d\d-\d\d\)", one.source), (
                one.id,
                what,
            )
