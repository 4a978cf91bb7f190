"""Health: when a breaker opens, for how long, how it closes, and that it forgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tollway.core.routing.health import (
    CONSECUTIVE,
    MEMORY_MS,
    OPEN_MAX_MS,
    OPEN_MS,
    PROBE_MS,
    WINDOW_MS,
    Breaker,
    Health,
    admits,
    after_fault,
    after_ok,
    idle,
    phase,
)

NOW = 1_800_000_000_000
EVEN = 0.5  # dice that neither lengthen nor shorten


def faults(breaker: Breaker, count: int, now: int = NOW) -> Breaker:
    for _ in range(count):
        breaker = after_fault(breaker, now, dice=EVEN)
    return breaker


def test_five_faults_in_a_row_open_it() -> None:
    breaker = faults(Breaker(half=NOW), CONSECUTIVE - 1)
    assert phase(breaker, NOW) == "closed"
    assert phase(faults(after_ok(breaker, NOW), CONSECUTIVE - 1), NOW) == "closed"
    opened = faults(breaker, 1)
    assert phase(opened, NOW) == "open" and not admits(opened, NOW)
    assert opened.open_until == NOW + OPEN_MS


def alternating(calls: int, gap: int) -> str:
    breaker, now = Breaker(half=NOW), NOW
    for number in range(calls):
        now = NOW + number * gap
        breaker = after_ok(breaker, now) if number % 2 else after_fault(breaker, now, dice=EVEN)
    return phase(breaker, now)


@pytest.mark.parametrize(
    ("calls", "gap", "expected"), [(19, 100, "closed"), (21, 100, "open"), (200, 4000, "closed")]
)
def test_half_of_twenty_within_the_window_opens_it(calls, gap, expected) -> None:
    assert alternating(calls, gap) == expected


def test_a_third_of_many_does_not_open_it() -> None:
    breaker = Breaker(half=NOW)
    for number in range(300):
        breaker = after_ok(breaker, NOW) if number % 3 else after_fault(breaker, NOW, dice=EVEN)
    assert phase(breaker, NOW) == "closed"


def tripped(times: int) -> list[int]:
    """How long the breaker stays open each time its probe fails."""
    breaker, now, spans = faults(Breaker(half=NOW), CONSECUTIVE), NOW, []
    for _ in range(times):
        spans.append(breaker.open_until - now)
        now = breaker.open_until
        assert phase(breaker, now) == "half_open" and admits(breaker, now)
        breaker = after_fault(replace(breaker, probe_until=now + 1), now, dice=EVEN)
    return spans


def test_each_failed_probe_doubles_the_time_up_to_ten_minutes() -> None:
    assert tripped(8) == [30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000]


@pytest.mark.parametrize(("dice", "span"), [(0.0, 27_000), (0.5, 30_000), (0.999, 32_970)])
def test_reopening_is_spread_by_a_tenth(dice, span) -> None:
    breaker = faults(Breaker(half=NOW), CONSECUTIVE - 1)
    assert after_fault(breaker, NOW, dice=dice).open_until == NOW + span


def test_late_faults_of_older_calls_do_not_prolong_it() -> None:
    opened = faults(Breaker(half=NOW), CONSECUTIVE)
    assert faults(opened, 50) == opened
    half_open = opened.open_until + 1
    assert faults(opened, 50, half_open) == opened


def test_a_success_closes_it_in_any_phase() -> None:
    opened = faults(Breaker(half=NOW), CONSECUTIVE)
    for now in (NOW + 1, opened.open_until + 1):
        closed = after_ok(opened, now)
        assert phase(closed, now) == "closed" and admits(closed, now)


@pytest.mark.parametrize(("pause", "span"), [(1000, 2 * OPEN_MS), (MEMORY_MS, OPEN_MS)])
def test_a_relapse_within_ten_minutes_is_the_same_illness(pause, span) -> None:
    closed = after_ok(faults(Breaker(half=NOW), CONSECUTIVE), NOW)
    again = faults(closed, CONSECUTIVE, NOW + pause)
    assert again.open_until == NOW + pause + span


@pytest.mark.parametrize(
    ("hints", "rest"), [((5000,), 5000), ((9000, 100), 9000), ((10**9,), OPEN_MAX_MS), ((0,), 0)]
)
def test_a_hint_rests_the_channel_and_is_never_shortened(hints, rest) -> None:
    breaker = Breaker(half=NOW)
    for hint in hints:
        breaker = after_fault(breaker, NOW, dice=EVEN, retry_after_ms=hint)
    breaker = after_ok(breaker, NOW)
    assert phase(breaker, NOW) == "closed"
    assert admits(breaker, NOW + rest) and (not rest or not admits(breaker, NOW + rest - 1))


def test_a_hint_outlasts_the_breaker() -> None:
    opened = after_fault(
        faults(Breaker(half=NOW), CONSECUTIVE - 1), NOW, dice=EVEN, retry_after_ms=2 * OPEN_MS
    )
    assert not admits(opened, opened.open_until + 1) and admits(opened, NOW + 2 * OPEN_MS)
    assert not admits(after_ok(opened, NOW + 1), NOW + 2)


@pytest.mark.parametrize("back", [60_000, 3_600_000, 10**9])
def test_a_clock_that_is_set_back_keeps_nothing_shut_for_longer_than_was_meant(back) -> None:
    opened = after_fault(
        faults(Breaker(half=NOW), CONSECUTIVE - 1), NOW, dice=EVEN, retry_after_ms=OPEN_MAX_MS
    )
    assert not admits(opened, NOW)
    now = NOW - back
    spans = range(0, 10**7, OPEN_MS)
    assert next(span for span in spans if admits(opened, now + span)) <= 2 * OPEN_MAX_MS


@pytest.mark.parametrize(
    ("breaker", "expected"),
    [
        (Breaker(half=NOW - WINDOW_MS), True),
        (Breaker(half=NOW - WINDOW_MS + 1), False),
        (Breaker(open_until=NOW - 10**6), False),
        (Breaker(rest_until=NOW + 1), False),
        (Breaker(trips=1, closed_at=NOW - MEMORY_MS + 1), False),
        (Breaker(trips=1, closed_at=NOW - MEMORY_MS), True),
    ],
)
def test_what_may_be_forgotten(breaker, expected) -> None:
    assert idle(breaker, NOW) is expected


def test_a_channel_that_is_well_costs_nothing() -> None:
    health = Health()
    for number in range(1000):
        health.ok(f"c{number}", "m", NOW)
    assert len(health) == 0
    assert health.available("c1", "m", NOW) and health.state("c1", "m", NOW) == "closed"
    assert health.available_at("c1", "m", NOW) == NOW
    assert not health.claim("c1", "m", NOW)
    health.release("c1", "m")


def test_a_channel_that_got_well_is_forgotten() -> None:
    health = Health()
    health.fault("a", "m", NOW, dice=EVEN)
    health.ok("b", "m", NOW)
    health.ok("a", "m", NOW)
    assert len(health) == 1
    health.ok("a", "m", NOW + WINDOW_MS)
    assert len(health) == 0


def test_the_container_follows_the_table() -> None:
    health = Health()
    for _ in range(CONSECUTIVE):
        health.fault("a", "m", NOW, dice=EVEN)
    assert health.state("a", "m", NOW) == "open"
    assert not health.available("a", "m", NOW) and health.available("a", "other", NOW)
    due = health.available_at("a", "m", NOW)
    assert due == NOW + OPEN_MS
    assert not health.claim("a", "m", due - 1)
    assert health.claim("a", "m", due) and not health.claim("a", "m", due)
    assert health.available_at("a", "m", due) == due + PROBE_MS
    health.release("a", "m")
    assert health.claim("a", "m", due)
    health.ok("a", "m", due)
    assert health.state("a", "m", due) == "closed" and health.available("a", "m", due)


def test_memory_is_bounded_and_the_forgettable_go_first() -> None:
    health = Health(entries_max=10)
    for _ in range(CONSECUTIVE):
        health.fault("ill", "m", NOW, dice=EVEN)
    for number in range(9):
        health.fault(f"old{number}", "m", NOW, dice=EVEN)
    health.fault("new", "m", NOW + WINDOW_MS, dice=EVEN)
    assert len(health) == 2 and health.state("ill", "m", NOW) == "open"
    for number in range(100):
        health.fault(f"flood{number}", "m", NOW + WINDOW_MS, dice=EVEN)
        assert len(health) <= 10


STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 40_000), st.none() | st.integers(1, 10**7)), max_size=80
)


@given(STEPS, st.floats(0, 1, exclude_max=True))
def test_no_channel_is_shut_for_longer_than_eleven_minutes(steps, dice) -> None:
    breaker, now = Breaker(half=NOW), NOW
    for good, pause, hint in steps:
        now += pause
        breaker = (
            after_ok(breaker, now) if good else after_fault(breaker, now, dice=dice, retry_after_ms=hint)
        )
        assert max(breaker.open_until, breaker.rest_until) <= now + OPEN_MAX_MS * 11 // 10
        assert admits(breaker, now + OPEN_MAX_MS * 11 // 10)
