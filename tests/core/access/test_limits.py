"""Limits: the arithmetic of windows, exact waits, corrections, messages and headers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.access.keys import Key
from tollway.core.access.limits import (
    CLEAN,
    State,
    Verdict,
    correct,
    crowded,
    go_duration,
    rate_headers,
    refusal_headers,
    refused,
    reset,
    take,
    take_told,
    turned,
    used,
    verdicts,
    wait,
)
from tollway.core.errors import GatewayError

NOW = 1_800_000_000_000
MINUTE = 60_000
KEY = Key(
    id="key_1", account_id="a", account_status="active", project_id="p", project_name="p", name="ci",
    display="sk", status="active", wallet=1, group="default", models=(), networks=(), rpm=None, tpm=None,
    concurrency=None, budget=None, budget_period="total", expires_at=None, created_at=0,
)  # fmt: skip


def limited(rpm: int | None, tpm: int | None) -> Key:
    return msgspec.structs.replace(KEY, rpm=rpm, tpm=tpm)


COUNTS = st.integers(0, 10**6)
ELAPSED = st.integers(0, MINUTE - 1)


def fits_at(before: int, current: int, elapsed: int, cost: int, limit: int) -> bool:
    state = turned(State(NOW, before, 0, current), NOW + elapsed)
    return used(state.requests_before, state.requests, NOW + elapsed - state.start) + cost <= limit


@given(COUNTS, COUNTS, ELAPSED, st.integers(1, 10**6), st.data())
def test_the_wait_is_exact(before, current, elapsed, limit, data) -> None:
    cost = data.draw(st.integers(1, limit))
    pause = wait(limit, cost, before, current, elapsed)
    assert 0 <= pause <= 2 * MINUTE
    assert fits_at(before, current, elapsed + pause, cost, limit)
    if pause:
        assert not fits_at(before, current, elapsed + pause - 1, cost, limit)


@given(COUNTS, COUNTS, ELAPSED, st.integers(1, 10**6))
def test_a_reset_is_the_wait_for_the_whole_limit_whatever_it_is(before, current, elapsed, limit) -> None:
    assert reset(before, current, elapsed) == wait(limit, limit, before, current, elapsed)


@given(st.integers(1, 500), st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 50)), max_size=60))
def test_no_minute_on_the_clock_of_a_key_admits_more_than_its_limit(limit, calls) -> None:
    state, now, key = CLEAN, NOW, limited(None, limit)
    admitted: dict[int, int] = {}
    for pause, cost in calls:
        now += pause
        taken = take(state, key, min(cost, limit), now)
        if taken is not None:
            state = taken
            admitted[state.start] = admitted.get(state.start, 0) + min(cost, limit)
    assert all(amount <= limit for amount in admitted.values())


def test_the_first_minute_admits_exactly_the_limit_and_then_slides() -> None:
    state, key = CLEAN, limited(60, None)
    admitted = []
    for second in range(180):
        for _ in range(10):
            taken = take(state, key, 0, NOW + second * 1000)
            if taken is not None:
                state = taken
                admitted.append(second)
    per_minute = [sum(1 for second in admitted if second // 60 == minute) for minute in range(3)]
    assert per_minute == [60, 60, 60]
    assert admitted[:60] == sorted([0, 1, 2, 3, 4, 5] * 10)
    assert len({second for second in admitted if 60 <= second < 120}) > 50


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW, State(NOW, 1, 2, 3, 4)),
        (NOW + MINUTE - 1, State(NOW, 1, 2, 3, 4)),
        (NOW + MINUTE, State(NOW + MINUTE, 3, 4)),
        (NOW + 2 * MINUTE - 1, State(NOW + MINUTE, 3, 4)),
        (NOW + 2 * MINUTE, State(NOW + 2 * MINUTE)),
        (NOW + 10**9, State(NOW + 10**9)),
        (NOW - 1, State(NOW - 1, 1, 2, 3, 4)),
    ],
)
def test_minutes_turn_over(now, expected) -> None:
    assert turned(State(NOW, 1, 2, 3, 4), now) == expected


@given(st.integers(0, 10**15))
def test_a_clean_states_first_minute_begins_when_it_is_asked(now) -> None:
    assert turned(CLEAN, now) == State(now)


def test_all_windows_are_taken_or_none() -> None:
    key = limited(10, 100)
    state = take(CLEAN, key, 60, NOW)
    assert state == State(NOW, requests=1, tokens=60)
    assert take(state, key, 60, NOW) is None
    assert verdicts(state, key, 60, NOW) == (
        Verdict("requests", 10, 9, MINUTE, 0),
        Verdict("tokens", 100, 40, 119_000, 79_000),
    )


def test_a_window_without_a_limit_counts_and_never_refuses() -> None:
    key = limited(None, 100)
    state = take(CLEAN, key, 10, NOW)
    assert state == State(NOW, requests=1, tokens=10)
    assert [one.name for one in verdicts(state, key, 10, NOW)] == ["tokens"]


@given(
    st.builds(State, st.just(NOW), COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.integers(NOW - MINUTE, NOW + 3 * MINUTE),
)
def test_a_call_is_taken_where_no_window_makes_it_wait(state, rpm, tpm, tokens, now) -> None:
    key = limited(rpm, tpm)
    tokens = tokens if tpm is None else min(tokens, tpm)
    here = turned(state, now)
    taken = take(state, key, tokens, now)
    assert (taken is None) == any(one.retry_after_ms for one in verdicts(here, key, tokens, now))
    if taken is not None:
        assert taken == State(
            here.start, here.requests_before, here.tokens_before, here.requests + 1, here.tokens + tokens
        )


@pytest.mark.parametrize(
    ("start", "surplus", "now", "expected"),
    [
        (NOW, 30, NOW, State(NOW, 7, 50, 8, 20)),
        (NOW, 80, NOW, State(NOW, 7, 50, 8, 0)),
        (NOW, -30, NOW, State(NOW, 7, 50, 8, 80)),
        (NOW, 30, NOW + MINUTE, State(NOW + MINUTE, 8, 20, 0, 0)),
        (NOW, 80, NOW + MINUTE, State(NOW + MINUTE, 8, 0, 0, 0)),
        (NOW, -30, NOW + MINUTE, State(NOW + MINUTE, 8, 50, 0, 30)),
        (NOW - MINUTE, 30, NOW, State(NOW, 7, 20, 8, 50)),
        (NOW - 2 * MINUTE, 30, NOW, State(NOW, 7, 50, 8, 50)),
        (NOW, 30, NOW + 2 * MINUTE, State(NOW + 2 * MINUTE)),
        (NOW, -30, NOW + 2 * MINUTE, State(NOW + 2 * MINUTE, tokens=30)),
    ],
)
def test_corrections_go_where_the_reservation_lies(start, surplus, now, expected) -> None:
    assert correct(State(NOW, 7, 50, 8, 50), start, surplus, now) == expected


def test_the_refusal_names_the_limit_that_takes_longest() -> None:
    found = (
        Verdict("requests", 60, 0, 70_000, 300),
        Verdict("tokens", 1000, 400, 90_000, 17_001),
    )
    error = refused(KEY, found, 601, NOW)
    assert (error.code, error.status, error.scope) == ("token_rate_limited", 429, "key")
    assert (
        error.message == "tokens per minute: 600/1000 on key 'ci', and this call reserves 601; retry in 18 s"
    )
    assert error.retry_after_ms == 17_001
    assert error.limit == ("tokens_per_minute", 600, 1000, NOW + 90_000)
    assert refusal_headers(error, NOW) == [
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"400"),
        (b"x-ratelimit-reset-tokens", b"1m30s"),
    ]


def test_other_refusals_have_no_rate_headers() -> None:
    assert refusal_headers(crowded(KEY, 3, 3), NOW) == []
    assert refusal_headers(GatewayError("invalid_body", "no"), NOW) == []


def test_headers_are_a_block_of_lines() -> None:
    state = State(NOW, requests_before=0, tokens_before=3000, requests=1, tokens=700)
    assert rate_headers(state, limited(60, 1000), NOW + 53_999) == (
        b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
        b"x-ratelimit-reset-requests: 6.001s\r\n"
        b"x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 0\r\n"
        b"x-ratelimit-reset-tokens: 1m5.915s\r\n"
    )
    assert rate_headers(state, limited(60, None), NOW).count(b"\r\n") == 3
    assert rate_headers(state, KEY, NOW) == b""


@given(
    st.builds(State, st.just(NOW), COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
    ELAPSED,
)
def test_headers_tell_what_the_verdicts_do(state, rpm, tpm, elapsed) -> None:
    key, expected = limited(rpm, tpm), b""
    for one in verdicts(state, key, 1, NOW + elapsed):
        for what, value in [
            ("limit", one.limit),
            ("remaining", one.remaining),
            ("reset", go_duration(one.reset_ms).decode()),
        ]:
            expected += f"x-ratelimit-{what}-{one.name}: {value}\r\n".encode()
    assert rate_headers(state, key, NOW + elapsed) == expected


@given(
    st.builds(State, st.just(NOW), COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.integers(1, 3 * 10**6),
    st.none() | st.integers(1, 3 * 10**6),
    st.integers(0, 10**6),
    st.integers(-1, 3 * MINUTE),
)
def test_what_is_told_with_a_take_is_what_both_say(state, rpm, tpm, tokens, elapsed) -> None:
    key, now = limited(rpm, tpm), NOW + elapsed
    taken = take(state, key, tokens, now)
    expected = None if taken is None else (taken, rate_headers(taken, key, now))
    assert take_told(state, key, tokens, now) == expected


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, b"0s"), (1, b"1ms"), (999, b"999ms"), (1000, b"1s"), (1500, b"1.5s"), (1050, b"1.05s"),
     (1001, b"1.001s"), (59_999, b"59.999s"), (60_000, b"1m0s"), (90_500, b"1m30.5s"), (120_000, b"2m0s"), (121_000, b"2m1s"), (360_000, b"6m0s"),
     (3_723_450, b"62m3.45s")],
)  # fmt: skip
def test_durations_read_as_go_writes_them(ms, text) -> None:
    assert go_duration(ms) == text
