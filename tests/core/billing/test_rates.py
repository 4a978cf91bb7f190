"""Rates: their keys, what is refused, tiers, variants and discounts."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core import json
from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import RATE_MAX, WHOLE, RateKey, Rates, input_tokens, key_of, parse_key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("input", RateKey("input", (), 0)),
        ("cache_write_1h", RateKey("cache_write_1h", (), 0)),
        ("input@200000", RateKey("input", (), 200_000)),
        ("image:1024x1024:high", RateKey("image", ("1024x1024", "high"), 0)),
        ("image:any:hd", RateKey("image", ("any", "hd"), 0)),
        ("video_second:1080p:silent:std", RateKey("video_second", ("1080p", "silent", "std"), 0)),
        ("song:cover", RateKey("song", ("cover",), 0)),
        ("web_search:preview", RateKey("web_search", ("preview",), 0)),
        ("cache_write_1h:fast-us", RateKey("cache_write_1h", ("fast-us",), 0)),
    ],
)
def test_keys_say_what_is_priced(key, expected) -> None:
    assert parse_key(key) == expected
    if not expected.above:
        assert key_of(expected.meter, *expected.variant) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "no rate"),
        ("Input", "no rate"),
        ("input@", "no rate"),
        ("input@0", "no rate"),
        ("input@-5", "no rate"),
        ("input@2e5", "no rate"),
        ("image:", "no rate"),
        ("image:High", "no rate"),
        ("image:a b", "no rate"),
        ("image:" + "x" * 33, "no rate"),
        ("tokens", "no meter"),
        ("call:fast", "call has none"),
        ("input:any", "leave ':any' out"),
        ("input:us:fast", "priced by tier"),
        ("image:1x1:hd:x", "size, then quality"),
        ("image@5", "size of a call"),
        ("video_token@5", "size of a call"),
        ("call@200000", "size of a call"),
        ("input@1000000001", "at most"),
    ],
)
def test_keys_that_price_nothing_are_refused(key, why) -> None:
    with pytest.raises(ValueError, match=why):
        parse_key(key)
    with pytest.raises(ValueError, match=why):
        Rates({"input": 1, key: 2})


@pytest.mark.parametrize(
    ("rates", "why"),
    [
        ({"input": -1}, "integer"),
        ({"input": 1.5}, "integer"),
        ({"input": True}, "integer"),
        ({"input": "1"}, "integer"),
        ({"input": RATE_MAX + 1}, "integer"),
        ({"input": 1, "output@5": 2}, "needs a rate for 'output'"),
        ({"input": 5, "input@10": 4}, "rates rise"),
        ({"input": 1, "input@10": 5, "input@20": 4}, "'input@20' is cheaper"),
        ({"input": 1, "output": 1, "input:fast": 2}, "'fast' needs rates for 'output:fast'"),
        ({"input": 1, "output": 1, "cache_read:us": 2}, "needs rates for 'input:us' and 'output:us'"),
        ({"call": 1, "input:us": 2}, "needs rates for 'input' and 'output'"),
        ({"input": 1, "input:us@10": 2}, "needs a rate for 'input:us'"),
        ({"input": 1, "input:us": 3, "input:us@10": 2}, "'input:us@10' is cheaper"),
    ],
)
def test_rates_nothing_could_be_billed_by_are_refused(rates, why) -> None:
    with pytest.raises(ValueError, match=why):
        Rates(rates)


@pytest.mark.parametrize("discount", [-1, WHOLE + 1])
def test_a_discount_is_at_most_everything(discount) -> None:
    with pytest.raises(ValueError, match="discount"):
        Rates({"input": 1}, discount)


def test_rates_never_change_and_are_the_plain_map_everywhere_else() -> None:
    rates = Rates({"input": 1, "output": 2})
    assert rates == {"input": 1, "output": 2}
    assert json.encode(rates) == b'{"input":1,"output":2}'
    for change in (
        lambda: rates.__setitem__("input", 0), lambda: rates.update(input=0), lambda: rates.pop("input"),
        rates.clear, rates.popitem, lambda: rates.setdefault("call", 1), lambda: rates.__delitem__("input"),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            change()
    with pytest.raises(TypeError):
        rates |= {"input": 0}
    assert rates == {"input": 1, "output": 2}


TIERED = {
    "input": 10, "output": 100, "cache_read": 1, "call": 7,
    "input@200": 20, "output@200": 150, "input@500": 30, "cache_read@500": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "due"),
    [
        (0, {"input": 10, "output": 100, "cache_read": 1, "call": 7}),
        (200, {"input": 10, "output": 100, "cache_read": 1, "call": 7}),
        (201, {"input": 20, "output": 150, "cache_read": 1, "call": 7}),
        (500, {"input": 20, "output": 150, "cache_read": 1, "call": 7}),
        (501, {"input": 30, "output": 150, "cache_read": 3, "call": 7}),
    ],
)
def test_a_threshold_concerns_the_whole_call_once_it_is_exceeded(tokens, due) -> None:
    rates = Rates({key: rate * 10**6 for key, rate in TIERED.items()})
    assert rates.at(tokens) == {meter: rate * 10**6 for meter, rate in due.items()}
    meters = {"input": tokens, "output": 3, "call": 1}
    assert cost(meters, rates) == tokens * due["input"] + 3 * due["output"] + 7


def test_cached_and_spoken_input_counts_towards_a_threshold() -> None:
    rates = Rates({key: rate * 10**6 for key, rate in TIERED.items()})
    meters = {"input": 1, "cache_read": 150, "cache_write": 20, "cache_write_1h": 20, "audio_in": 10}
    assert input_tokens({**meters, "output": 999, "call": 1}) == 201
    assert cost(meters, rates) == 20 + 150
    assert cost({**meters, "image_token_in": 300}, rates) == 30 + 150 * 3


IMAGES = Rates(
    {
        "image": 5, "image:1024x1024:high": 100, "image:1024x1024": 40, "image:any:high": 60,
        "video_second:720p": 1, "video_second:1080p": 2, "video_second:1080p:audio": 3,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("counted", "rate"),
    [
        ("image:1024x1024:high", 100),
        ("image:1024x1024:low", 40),
        ("image:1024x1024", 40),
        ("image:512x512:high", 60),
        ("image:512x512:low", 5),
        ("image", 5),
        ("video_second:1080p:audio", 3),
        ("video_second:1080p:silent", 2),
        ("video_second:1080p:audio:pro", 3),
        # nothing fits: the dearest of the meter, never nothing
        ("video_second:4k:audio", 3),
        ("video_second", 3),
        ("song", 0),
        ("song:cover", 0),
    ],
)
def test_units_of_a_variant_take_the_rate_that_fits_best(counted, rate) -> None:
    assert IMAGES.of_variant(counted) == rate
    assert cost({counted: 2_000_000}, IMAGES) == 2 * rate


def test_a_discount_is_taken_before_the_one_rounding() -> None:
    rates = Rates({"input": 333_333, "output": 1_000_001})
    tenth = rates.less(1000)
    assert rates.less(0) is rates and rates.less(1000) is tenth and tenth.less(1000) is tenth
    assert tenth == rates, "the listed rates stay as they are"
    exact = Fraction(7 * 333_333 + 11 * 1_000_001, 10**6) * Fraction(9000, 10_000)
    assert cost({"input": 7, "output": 11}, tenth) == math.ceil(exact)
    assert cost({"input": 10**6}, rates.less(WHOLE)) == 0


@given(
    st.dictionaries(st.sampled_from(["input", "cache_read", "output", "call"]), st.integers(0, 10**9)),
    st.dictionaries(st.sampled_from(["input", "cache_read", "output", "call"]), st.integers(0, 10**12)),
    st.integers(0, WHOLE),
)
def test_discounted_bills_are_exact_and_never_dearer(meters, rates, discount) -> None:
    full, less = cost(meters, Rates(rates)), cost(meters, Rates(rates).less(discount))
    exact = sum((Fraction(n * rates.get(name, 0), 10**6) for name, n in meters.items()), Fraction(0))
    assert less == math.ceil(exact * (WHOLE - discount) / WHOLE)
    assert less <= full


TIERS = Rates({
    "input": 10, "output": 40, "cache_read": 1, "input@100": 20, "output@100": 60, "call": 7,
    "input:flex": 5, "output:flex": 20, "input:fast": 60, "output:fast": 240, "input:fast@100": 90,
})  # fmt: skip


@pytest.mark.parametrize(
    ("meters", "micro"),
    [
        ({"input": 100, "output": 10, "cache_read": 0, "call": 1}, 100 * 10 + 10 * 40 + 7),
        ({"input": 101, "output": 10, "call": 1}, 101 * 20 + 10 * 60 + 7),
        # a tier is a price of its own, with thresholds of its own or none, and shares what are no tokens
        ({"tier:flex": 1, "input": 101, "output": 10, "call": 1}, 101 * 5 + 10 * 20 + 7),
        ({"tier:fast": 1, "input": 101, "output": 10}, 101 * 90 + 10 * 240),
        # what is stored may come back in another order
        ({"input": 100, "output": 10, "tier:fast": 1}, 100 * 60 + 10 * 240),
        ({"tier:scale": 1, "input": 100}, 100 * 10),
    ],
)
def test_a_call_is_charged_by_the_rates_of_the_tier_it_is_marked_with(meters, micro) -> None:
    whole = Rates({key: rate * 10**6 for key, rate in TIERS.items()})
    assert cost(meters, whole) == cost(meters, dict(whole)) == micro
    assert cost(meters, whole.less(5000)) == -(-micro // 2)
