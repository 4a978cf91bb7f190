"""The retry budget: a fifth of the calls, and a few a second for quiet times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.routing.retries import Retries, RetryBudget

NOW = 1_800_000_000_000


def spend(retries: Retries, now: int) -> int:
    count = 0
    while retries.may_retry(now):
        count += 1
    return count


@pytest.mark.parametrize(("calls", "expected"), [(0, 30), (4, 30), (5, 31), (1000, 230)])
def test_what_is_affordable(calls, expected) -> None:
    retries = Retries()
    for _ in range(calls):
        retries.called(NOW)
    assert spend(retries, NOW) == expected


def test_it_is_refilled_within_ten_seconds() -> None:
    retries = Retries()
    assert spend(retries, NOW) == 30
    assert spend(retries, NOW + 9_999) == 0
    assert spend(retries, NOW + 20_000) == 30


def test_what_was_spent_in_the_older_half_still_counts() -> None:
    retries = Retries()
    retries.called(NOW)
    assert sum(retries.may_retry(NOW) for _ in range(20)) == 20
    assert spend(retries, NOW + 5_000) == 10
    assert spend(retries, NOW + 10_000) == 20


def test_a_clock_set_back_starts_anew() -> None:
    retries = Retries()
    spend(retries, NOW)
    assert spend(retries, NOW - 10**6) == 30


def test_it_is_a_value() -> None:
    budget = RetryBudget()
    assert budget.called(NOW) is not budget and budget == RetryBudget()
    spent = budget.retried(NOW)
    assert spent is not None and spent.retries == 1 and budget.retries == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=200))
def test_retries_never_exceed_the_budget_of_their_window(events) -> None:
    retries, now = Retries(), NOW
    calls: list[int] = []
    spent: list[int] = []
    for call, pause in events:
        now += pause
        if call:
            retries.called(now)
            calls.append(now)
        elif retries.may_retry(now):
            spent.append(now)
        recent = [at for at in spent if at > now - 5_000]
        assert len(recent) <= 30 + len([at for at in calls if at > now - 10_000]) // 5 + 30
