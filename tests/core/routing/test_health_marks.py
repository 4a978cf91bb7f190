"""Processes that tell each other of their breakers agree, whatever the order, and lose nothing when alone."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.core.routing.health import (
    CONSECUTIVE,
    NO_MARK,
    OPEN_MAX_MS,
    SKEW_MS,
    Breaker,
    Health,
    Mark,
    after_fault,
    after_mark,
    after_ok,
    joined,
    mark_of,
    phase,
)

NOW = 1_800_000_000_000
NAME = ("chn_1", "m")
small = st.integers(0, 3)
marks = st.builds(Mark, small, small, small, small, small)


@given(marks, marks, marks)
def test_marks_say_the_same_together_in_any_order(one, two, three):
    assert len({reduce(joined, order) for order in permutations((one, two, three))}) == 1
    assert joined(one, one) == one
    assert joined(one, NO_MARK) == one


def tripped(now=NOW, breaker=None):
    breaker = breaker or Breaker(half=now)
    for _ in range(CONSECUTIVE):
        breaker = after_fault(breaker, now, dice=0.5)
    assert breaker.open_until
    return breaker


def test_a_trip_elsewhere_opens_and_its_end_closes():
    theirs = tripped()
    mine = after_mark(Breaker(half=NOW, consecutive=3), mark_of(theirs), NOW)
    assert (phase(mine, NOW), mine.open_until) == ("open", theirs.open_until)
    later = theirs.open_until
    assert phase(mine, later) == "half_open"
    well = after_ok(theirs, later)
    assert phase(after_mark(mine, mark_of(well), later), later) == "closed"


def test_an_old_end_does_not_close_a_newer_trip():
    first = tripped()
    well = after_ok(first, NOW + 40_000)
    again = tripped(NOW + 50_000, well)
    assert after_mark(again, mark_of(well), NOW + 50_001) == again
    assert phase(after_mark(well, mark_of(again), NOW + 50_001), NOW + 50_001) == "open"


def test_a_trip_is_newer_than_the_last_even_where_the_clock_was_set_back():
    well = after_ok(tripped(), NOW + 40_000)
    again = tripped(NOW - 5_000, well)
    assert mark_of(again) > mark_of(well)


def test_counts_of_a_closed_breaker_stay_its_own():
    well = after_ok(tripped(), NOW + 40_000)
    mine = Breaker(half=NOW + 40_000, consecutive=4, calls=4, faults=4)
    heard = after_mark(mine, mark_of(well), NOW + 40_001)
    assert (heard.consecutive, heard.trips) == (4, 1)
    assert phase(after_fault(heard, NOW + 40_002, dice=0.5), NOW + 40_003) == "open"


def test_what_no_clock_of_ours_could_have_made_is_not_believed():
    mine = Breaker(half=NOW)
    ahead = Mark(NOW + SKEW_MS + 1, 0, NOW + 2 * SKEW_MS, 1, 0)
    assert after_mark(mine, ahead, NOW) is mine
    endless = after_mark(mine, Mark(NOW, 0, NOW * 2, 1, NOW * 2), NOW)
    assert endless.open_until <= NOW + 2 * OPEN_MAX_MS
    assert endless.rest_until <= NOW + OPEN_MAX_MS


def test_a_wish_to_rest_is_heard_and_never_shortened():
    theirs = after_fault(Breaker(half=NOW), NOW, dice=0.5, retry_after_ms=20_000)
    mine = after_fault(Breaker(half=NOW), NOW, dice=0.5, retry_after_ms=30_000)
    assert after_mark(mine, mark_of(theirs), NOW) == mine
    assert after_mark(theirs, mark_of(mine), NOW).rest_until == NOW + 30_000


steps = st.lists(
    st.tuples(
        st.sampled_from(["ok", "fault", "faults", "exchange", "wait", "rest", "claim"]),
        st.integers(0, 2),
        st.integers(1, 120_000),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps)
def test_processes_agree_once_all_have_exchanged(script):
    """Three processes and what lies between them. Until they meet, each does as it would alone."""
    now, between = NOW, {}
    healths = [Health() for _ in range(3)]

    def exchange(health):
        for name, mark in health.marks():
            between[name] = joined(between.get(name, NO_MARK), mark)
        for name, mark in between.items():
            health.hear(*name, mark, now)

    for what, who, much in script:
        health = healths[who]
        if what == "wait":
            now += much
        elif what == "exchange":
            exchange(health)
        elif what == "ok":
            health.ok(*NAME, now)
        elif what == "claim":
            if health.claim(*NAME, now):
                assert not health.available(*NAME, now)
        else:
            for _ in range(CONSECUTIVE if what == "faults" else 1):
                rest = much if what == "rest" else None
                health.fault(*NAME, now, dice=0.5, retry_after_ms=rest)
            if what == "faults":
                # A process that sees five faults in a row shuts the channel, whatever others said.
                assert health.state(*NAME, now) != "closed"
    for _ in range(2):
        for health in healths:
            exchange(health)
    assert len({health.state(*NAME, now) for health in healths}) == 1
    found = [dict(health.marks()).get(NAME, NO_MARK) for health in healths]
    told = between.get(NAME, NO_MARK)
    for mark in found:
        assert mark in (told, NO_MARK) or mark[:4] == told[:4]
