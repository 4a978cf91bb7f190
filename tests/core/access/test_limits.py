"""Limits: the arithmetic of windows, exact waits, corrections, messages and headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.access.keys import Key
from tollway.core.access.limits import (
    State,
    Verdict,
    Window,
    correct,
    crowded,
    go_duration,
    rate_headers,
    refusal_headers,
    refused,
    take,
    turned,
    used,
    verdicts,
    wait,
    windows_for,
)
from tollway.core.errors import GatewayError

NOW = 1_800_000_000_000
MINUTE = 60_000
KEY = Key(
    id="key_1", account_id="a", account_status="active", project_id="p", project_name="p", name="ci",
    display="sk", status="active", wallet=1, group="default", models=(), networks=(), rpm=None, tpm=None,
    concurrency=None, budget=None, budget_period="total", expires_at=None, created_at=0,
)  # fmt: skip

COUNTS = st.integers(0, 10**6)
ELAPSED = st.integers(0, MINUTE - 1)


def fits_at(before: int, current: int, elapsed: int, cost: int, limit: int) -> bool:
    state = turned(State(NOW, (before,), (current,)), 1, NOW + elapsed)
    return used(state.before[0], state.current[0], NOW + elapsed - state.start) + cost <= limit


@given(COUNTS, COUNTS, ELAPSED, st.integers(1, 10**6), st.data())
def test_the_wait_is_exact(before, current, elapsed, limit, data) -> None:
    cost = data.draw(st.integers(1, limit))
    pause = wait(limit, cost, before, current, elapsed)
    assert 0 <= pause <= 2 * MINUTE
    assert fits_at(before, current, elapsed + pause, cost, limit)
    if pause:
        assert not fits_at(before, current, elapsed + pause - 1, cost, limit)


@given(st.integers(1, 500), st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 50)), max_size=60))
def test_no_minute_on_the_clock_of_a_key_admits_more_than_its_limit(limit, calls) -> None:
    state, now = None, NOW
    admitted: dict[int, int] = {}
    for pause, cost in calls:
        now += pause
        state, taken = take(state, (Window("tokens", limit, cost),), now)
        if taken:
            admitted[state.start] = admitted.get(state.start, 0) + min(cost, limit)
    assert all(amount <= limit for amount in admitted.values())


def test_the_first_minute_admits_exactly_the_limit_and_then_slides() -> None:
    state, window = None, (Window("requests", 60, 1),)
    admitted = []
    for second in range(180):
        for _ in range(10):
            state, taken = take(state, window, NOW + second * 1000)
            admitted += [second] * taken
    per_minute = [sum(1 for second in admitted if second // 60 == minute) for minute in range(3)]
    assert per_minute == [60, 60, 60]
    assert admitted[:60] == sorted([0, 1, 2, 3, 4, 5] * 10)
    assert len({second for second in admitted if 60 <= second < 120}) > 50


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW, State(NOW, (1,), (2,))),
        (NOW + MINUTE - 1, State(NOW, (1,), (2,))),
        (NOW + MINUTE, State(NOW + MINUTE, (2,), (0,))),
        (NOW + 2 * MINUTE - 1, State(NOW + MINUTE, (2,), (0,))),
        (NOW + 2 * MINUTE, State(NOW + 2 * MINUTE, (0,), (0,))),
        (NOW + 10**9, State(NOW + 10**9, (0,), (0,))),
        (NOW - 1, State(NOW - 1, (1,), (2,))),
    ],
)
def test_minutes_turn_over(now, expected) -> None:
    assert turned(State(NOW, (1,), (2,)), 1, now) == expected


def test_all_windows_are_taken_or_none() -> None:
    windows = (Window("requests", 10, 1), Window("tokens", 100, 60))
    state, taken = take(None, windows, NOW)
    assert taken and state == State(NOW, (0, 0), (1, 60))
    again, taken = take(state, windows, NOW)
    assert not taken and again == state
    assert verdicts(again, windows, NOW, taken=False) == (
        Verdict(True, "requests", 10, 9, MINUTE, 0),
        Verdict(False, "tokens", 100, 40, 119_000, 79_000),
    )


def test_a_window_without_a_limit_counts_and_never_refuses() -> None:
    windows = (Window("requests", None, 1), Window("tokens", 100, 10))
    state, taken = take(None, windows, NOW)
    assert taken and state.current == (1, 10)
    assert [one.name for one in verdicts(state, windows, NOW, taken=True)] == ["tokens"]


@pytest.mark.parametrize(
    ("start", "surplus", "now", "expected"),
    [
        (NOW, 30, NOW, State(NOW, (50,), (20,))),
        (NOW, 80, NOW, State(NOW, (50,), (0,))),
        (NOW, -30, NOW, State(NOW, (50,), (80,))),
        (NOW, 30, NOW + MINUTE, State(NOW + MINUTE, (20,), (0,))),
        (NOW, 80, NOW + MINUTE, State(NOW + MINUTE, (0,), (0,))),
        (NOW, -30, NOW + MINUTE, State(NOW + MINUTE, (50,), (30,))),
        (NOW - MINUTE, 30, NOW, State(NOW, (20,), (50,))),
        (NOW - 2 * MINUTE, 30, NOW, State(NOW, (50,), (50,))),
        (NOW, 30, NOW + 2 * MINUTE, State(NOW + 2 * MINUTE, (0,), (0,))),
    ],
)
def test_corrections_go_where_the_reservation_lies(start, surplus, now, expected) -> None:
    assert correct(State(NOW, (50,), (50,)), start, (surplus,), now) == expected


def test_nothing_remembered_needs_no_correction() -> None:
    assert correct(None, NOW, (5,), NOW) is None


@pytest.mark.parametrize(
    ("rpm", "tpm", "expected"),
    [
        (None, None, ()),
        (5, None, (Window("requests", 5, 1), Window("tokens", None, 7))),
        (None, 9, (Window("requests", None, 1), Window("tokens", 9, 7))),
        (5, 9, (Window("requests", 5, 1), Window("tokens", 9, 7))),
    ],
)
def test_the_windows_of_a_key(rpm, tpm, expected) -> None:
    key = Key(**{**{name: getattr(KEY, name) for name in KEY.__struct_fields__}, "rpm": rpm, "tpm": tpm})
    assert windows_for(key, 7) == expected


def test_the_refusal_names_the_limit_that_takes_longest() -> None:
    found = (
        Verdict(False, "requests", 60, 0, 70_000, 300),
        Verdict(False, "tokens", 1000, 400, 90_000, 17_001),
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
    found = (Verdict(True, "requests", 60, 59, 60_000, 0), Verdict(True, "tokens", 1000, 0, 250, 0))
    assert rate_headers(found) == (
        b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
        b"x-ratelimit-reset-requests: 1m0s\r\n"
        b"x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 0\r\n"
        b"x-ratelimit-reset-tokens: 250ms\r\n"
    )
    assert rate_headers(()) == b""


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, b"0s"), (1, b"1ms"), (999, b"999ms"), (1000, b"1s"), (1500, b"1.5s"), (1050, b"1.05s"),
     (1001, b"1.001s"), (59_999, b"59.999s"), (60_000, b"1m0s"), (90_500, b"1m30.5s"), (360_000, b"6m0s")],
)  # fmt: skip
def test_durations_read_as_go_writes_them(ms, text) -> None:
    assert go_duration(ms) == text
