"""Periods of any time zone as pieces of stored spans: complete, without overlap, and refused where impossible."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tollway.store.base import Store
from tollway.store.rollups import periods, usage
from tollway.store.rollups.periods import BadPeriod, pieces
from tollway.store.rollups.sums import QUARTER_MS

BEGIN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000
ZONES = (
    "UTC",
    "Asia/Kathmandu",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Africa/Cairo",
)


def test_pieces_cover_the_time_once_and_use_the_longest_spans() -> None:
    year = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1000
    whole = pieces(year, BEGIN, None, "UTC")
    assert [one.span for one in whole] == ["month"]
    assert [one.span for one in pieces(year - DAY, BEGIN + DAY, None, "UTC")] == ["day", "month", "day"]
    assert [one.span for one in pieces(year - 1, BEGIN + 1, None, "UTC")] == ["quarter", "month", "quarter"]
    for zone in ZONES:
        for unit in ("hour", "day", "month", None):
            found = pieces(BEGIN + 1, BEGIN + 45 * DAY, unit, zone)
            assert found[0].since == BEGIN
            assert found[-1].until == BEGIN + 45 * DAY
            assert all(a.until == b.since for a, b in zip(found, found[1:], strict=False)), (zone, unit)
            assert all(one.since < one.until for one in found)


def test_days_of_daylight_saving_have_23_and_25_hours() -> None:
    def hours(zone: str, year: int, month: int, day: int) -> float:
        local = datetime(year, month, day, 12, tzinfo=ZoneInfo(zone))
        at = int(local.timestamp()) * 1000
        found = [one for one in pieces(at - 3 * DAY, at + 3 * DAY, "day", zone) if one.period <= at]
        period = found[-1].period
        own = [one for one in pieces(at - 3 * DAY, at + 3 * DAY, "day", zone) if one.period == period]
        return sum(one.until - one.since for one in own) / 3_600_000

    assert hours("Europe/Berlin", 2026, 3, 29) == 23
    assert hours("Europe/Berlin", 2026, 10, 25) == 25
    assert hours("Australia/Lord_Howe", 2026, 4, 5) == 24.5
    assert hours("Africa/Cairo", 2026, 4, 24) == 23  # its clocks skip midnight itself


@pytest.mark.parametrize(
    ("since", "until", "unit", "zone"),
    [
        (5, 5 - QUARTER_MS, None, "UTC"),
        (0, 0, None, "UTC"),
        (-1, 10, None, "UTC"),
        (0, 10**18, None, "UTC"),
        (0, BEGIN, "hour", "UTC"),
        (BEGIN, BEGIN + DAY, "day", "Mars/Olympus"),
        (BEGIN, BEGIN + DAY, "day", "../../etc/passwd"),
        (BEGIN, BEGIN + DAY, "day", ""),
        (BEGIN, BEGIN + DAY, "day", "a" * 5000),
    ],
)
def test_impossible_times_are_refused(since: int, until: int, unit: Any, zone: str) -> None:
    with pytest.raises(BadPeriod):
        pieces(since, until, unit, zone)


async def test_two_units_of_time_are_refused(store: Store) -> None:
    with pytest.raises(BadPeriod, match="one of hour"):
        await store.read(partial(usage, since=0, until=DAY, by=("day", "hour")))


def test_every_zone_there_is_begins_its_days_at_a_quarter() -> None:
    for name in sorted(zoneinfo.available_timezones()):
        zone = periods.zone_of(name)
        for month in (1, 7):
            offset = datetime(2026, month, 1, tzinfo=zone).utcoffset()
            assert offset is not None
            assert offset.total_seconds() % 900 == 0, name
