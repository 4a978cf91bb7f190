"""Meters: real usage payloads become disjoint counts, and no token is counted twice or lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.billing.meters import COUNT_MAX, METERS, clean_count, contradictory, meters_of
from tollway.core.dialects.openai_chat.usage import read_usage
from tollway.core.exchange import Usage

PLAIN = {"input": 1, "output": 1}
CACHED = {"input": 10, "cache_read": 1, "output": 40}
WRITES = {"input": 10, "cache_read": 1, "cache_write": 12, "output": 50}
EVERYTHING = dict.fromkeys(METERS, 1)


def openai(prompt: int, completion: int, *, inp=None, out=None) -> dict:
    """A `usage` object of the shape api.openai.com sends."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **(inp or {})},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0, **(out or {}),
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "rates", "expected"),
    [
        # gpt-4o, nothing special
        (openai(19, 10), PLAIN, {"input": 19, "output": 10}),
        # a cached prompt: 1024 of 1117 tokens were read from the cache
        (
            openai(1117, 46, inp={"cached_tokens": 1024}),
            CACHED,
            {"cache_read": 1024, "input": 93, "output": 46},
        ),
        # the same where the price has no rate for cached tokens: they stay input
        (openai(1117, 46, inp={"cached_tokens": 1024}), PLAIN, {"input": 1117, "output": 46}),
        # the whole prompt was cached
        (openai(1024, 5, inp={"cached_tokens": 1024}), CACHED, {"cache_read": 1024, "output": 5}),
        # cache writes, as prompt caching with breakpoints reports them
        (
            openai(3000, 5, inp={"cached_tokens": 1000, "cache_write_tokens": 1500}),
            WRITES,
            {"cache_read": 1000, "cache_write": 1500, "input": 500, "output": 5},
        ),
        # a reasoning model: 320 of 442 tokens were thinking, and they are output
        (openai(20, 442, out={"reasoning_tokens": 320}), PLAIN, {"input": 20, "output": 442}),
        # ... unless the price sells them apart
        (
            openai(20, 442, out={"reasoning_tokens": 320}),
            {**PLAIN, "reasoning": 3},
            {"input": 20, "reasoning": 320, "output": 122},
        ),
        # gpt-4o-audio: both sides speak
        (
            openai(120, 200, inp={"audio_tokens": 100}, out={"audio_tokens": 150}),
            {**PLAIN, "audio_in": 40, "audio_out": 80},
            {"audio_in": 100, "input": 20, "audio_out": 150, "output": 50},
        ),
        # a compatible server without details
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, CACHED, {"input": 7, "output": 3}),
        # details that are null, as several compatible servers send them
        (
            {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None},
            CACHED,
            {"input": 7, "output": 3},
        ),
        # a server that counts cached tokens beside the prompt: never more input than it claims
        (openai(100, 1, inp={"cached_tokens": 400}), CACHED, {"cache_read": 100, "output": 1}),
        # an embedding: no output at all
        ({"prompt_tokens": 8, "total_tokens": 8}, PLAIN, {"input": 8}),
        # nothing
        ({}, PLAIN, {}),
        # a price per call
        (openai(19, 10), {**PLAIN, "call": 5}, {"input": 19, "output": 10, "call": 1}),
    ],
)
def test_openai_usage_becomes_disjoint_meters(usage, rates, expected) -> None:
    assert meters_of(read_usage(usage), rates) == expected


def test_one_hour_writes_without_a_rate_are_ordinary_writes() -> None:
    usage = Usage(input=100, cache_write=10, cache_write_1h=20)
    assert meters_of(usage, WRITES) == {"cache_write": 30, "input": 70}
    assert meters_of(usage, {**WRITES, "cache_write_1h": 20}) == {
        "cache_write": 10, "cache_write_1h": 20, "input": 70,
    }  # fmt: skip
    assert meters_of(usage, PLAIN) == {"input": 100}


COUNT = st.integers(0, 5000)
USAGES = st.builds(
    Usage,
    input=COUNT, output=COUNT, cache_read=COUNT, cache_write=COUNT, cache_write_1h=COUNT,
    reasoning=COUNT, audio_in=COUNT, audio_out=COUNT, image_in=COUNT, image_out=COUNT,
)  # fmt: skip


@given(USAGES, st.sets(st.sampled_from(sorted(METERS))))
def test_meters_sum_to_the_totals_whatever_the_details_claim(usage, priced) -> None:
    found = meters_of(usage, dict.fromkeys(priced, 1))
    side = {"in": 0, "out": 0}
    for name, count in found.items():
        assert count > 0
        assert name in priced or name in {"input", "output"}
        if name != "call":
            side[METERS[name].direction] += count
    assert side == {"in": usage.input, "out": usage.output}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (0, False)),
        (0, (0, False)),
        (42, (42, False)),
        (COUNT_MAX, (COUNT_MAX, False)),
        (COUNT_MAX + 1, (COUNT_MAX, True)),
        (2**63, (COUNT_MAX, True)),
        (-1, (0, True)),
        (True, (0, True)),
        (12.0, (0, True)),
        (float("nan"), (0, True)),
        ("12", (0, True)),
        ([12], (0, True)),
        ({}, (0, True)),
    ],
)
def test_counts_are_clamped_and_absurd_ones_told(value, expected) -> None:
    assert clean_count(value) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input=10, output=10, cache_read=5, cache_write=3, cache_write_1h=2, reasoning=10), False),
        (Usage(input=10, cache_read=5, cache_write=3, cache_write_1h=3), True),
        (Usage(input=10, audio_in=11), True),
        (Usage(output=10, reasoning=11), True),
        (Usage(output=10, audio_out=11), True),
        (Usage(input=10, image_in=11), True),
        (Usage(output=10, image_out=11), True),
    ],
)
def test_contradictions_are_noticed(usage, expected) -> None:
    assert contradictory(usage) is expected


SEARCHED = Usage(input=10, output=5, tools={"web_search": 2, "web_search:preview": 0, "file_search": 1})


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        # what a price has no rate for is not counted: a request for it was refused, or gave no fee
        (PLAIN, {}),
        ({**PLAIN, "web_search": 1}, {"web_search": 2}),
        ({**PLAIN, "web_search:preview": 1}, {"web_search": 2}),
        ({**PLAIN, "file_search": 1, "web_search": 1}, {"web_search": 2, "file_search": 1}),
        # sold by the call that searched, however often
        ({**PLAIN, "grounded": 1}, {"grounded": 1}),
    ],
)
def test_what_tools_did_is_counted_by_the_meters_a_price_has(rates, expected) -> None:
    assert meters_of(SEARCHED, rates) == {"input": 10, "output": 5, **expected}


FAST = {**CACHED, "input:fast": 60, "output:fast": 240, "input:us": 11, "cache_read:us": 2, "output:us": 44}


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("", {"input": 6, "cache_read": 4, "output": 5}),
        # a tier the price does not know is the plain price
        ("priority", {"input": 6, "cache_read": 4, "output": 5}),
        # cached tokens that the tier has no rate for are its input
        ("fast", {"tier:fast": 1, "input": 10, "output": 5}),
        ("us", {"tier:us": 1, "input": 6, "cache_read": 4, "output": 5}),
        # of several the dearest, where there is no price for them together
        ("fast-us", {"tier:fast": 1, "input": 10, "output": 5}),
        ("priority-us", {"tier:us": 1, "input": 6, "cache_read": 4, "output": 5}),
    ],
)
def test_the_tier_that_served_a_call_decides_what_is_told_apart(tier, expected) -> None:
    assert meters_of(Usage(input=10, output=5, cache_read=4, tier=tier), FAST) == expected


def test_every_meter_has_words_for_people() -> None:
    assert list(METERS) == [
        "input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "audio_in", "audio_out",
        "image_token_in", "image_token_out",
        "image", "image_in", "video_second", "video_token", "song", "character", "audio_second", "call",
        "web_search", "grounded", "map_search", "file_search", "code_session",
    ]  # fmt: skip
    assert all(meter.unit and meter.units != meter.unit for meter in METERS.values())
