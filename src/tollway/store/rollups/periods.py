"""Hours, days and months of any time zone, cut into the spans that are stored.

A local day is whole quarters of an hour, and where it begins with a day of UTC it is one stored
day; a long time without parts is mostly stored months. Daylight saving makes days of 23 or 25
hours, which come out right because each boundary is computed by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollway.store.rollups.sums import DAY_MS, QUARTER_MS, month

Unit = Literal["hour", "day", "month"]
PERIODS_MAX: Final = 10_000
TIME_MAX: Final = 7_258_118_400_000
"""The year 2200: later times are mistakes, such as nanoseconds."""


class BadPeriod(ValueError):
    """A time that cannot be asked for: its zone is unknown, it is empty, or it has too many parts."""


class Piece(NamedTuple):
    """Stored rows of one span from `since` to before `until`, which belong to the period that begins at `period`."""

    period: int
    span: str
    since: int
    until: int


def pieces(since: int, until: int, unit: Unit | None, zone: str) -> list[Piece]:
    """The stored rows of each period from `since` to before `until` (Unix ms), widened to whole quarters.

    `unit` None is one period. A period at either edge is cut there. Raises BadPeriod.
    """
    start, end = since - since % QUARTER_MS, until + -until % QUARTER_MS
    if not 0 <= start <= end <= TIME_MAX:
        raise BadPeriod("a time is Unix milliseconds, and ends after it begins")
    if start == end:
        raise BadPeriod("the time asked for is empty")
    found = []
    for count, (period, a, b) in enumerate(_periods(start, end, unit, zone_of(zone))):
        if count >= PERIODS_MAX:
            raise BadPeriod(f"the time asked for has more than {PERIODS_MAX} parts")
        found += [Piece(period, *part) for part in _cut(a, b)]
    return found


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises BadPeriod."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadPeriod(f"there is no time zone {name[:60]!r}; use a name such as Europe/Berlin") from None


def _periods(start: int, end: int, unit: Unit | None, zone: ZoneInfo) -> Iterator[tuple[int, int, int]]:
    if unit is None:
        yield start, start, end
        return
    period = _begin(start, unit, zone)
    while period < end:
        following = _next(period, unit, zone)
        yield period, max(period, start), min(following, end)
        period = following


def _local(at: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at // 1000, zone)


def _begin(at: int, unit: Unit, zone: ZoneInfo) -> int:
    local = _local(at, zone)
    if unit == "hour":
        # From the moment itself and not from the wall clock, which shows some hours twice.
        return at - (local.minute * 60 + local.second) * 1000 - at % 1000
    return _midnight(local.replace(day=1) if unit == "month" else local, zone)


def _next(period: int, unit: Unit, zone: ZoneInfo) -> int:
    if unit == "hour":
        return _begin(period + 3_600_000, unit, zone)
    local = _local(period, zone)
    if unit == "day":
        return _midnight(local + timedelta(days=1), zone)
    return _midnight(local.replace(day=1) + timedelta(days=32), zone, first=True)


def _midnight(local: datetime, zone: ZoneInfo, *, first: bool = False) -> int:
    begin = datetime(local.year, local.month, 1 if first else local.day, tzinfo=zone)
    at = int(begin.astimezone(UTC).timestamp()) * 1000
    return at - at % QUARTER_MS


def _cut(start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Quarters up to a day of UTC, days up to a month, months, and down again."""
    day_start, day_end = start + -start % DAY_MS, end - end % DAY_MS
    if day_start >= day_end:
        yield "quarter", start, end
        return
    if start < day_start:
        yield "quarter", start, day_start
    yield from _days(day_start, day_end)
    if day_end < end:
        yield "quarter", day_end, end


def _days(start: int, end: int) -> Iterator[tuple[str, int, int]]:
    month_start = month(start) if month(start) == start else month(month(start) + 32 * DAY_MS)
    month_end = month(end)
    if month_start >= month_end:
        yield "day", start, end
        return
    if start < month_start:
        yield "day", start, month_start
    yield "month", month_start, month_end
    if month_end < end:
        yield "day", month_end, end
