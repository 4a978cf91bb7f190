"""Hours, days and months of any time zone, cut into the spans that are stored.

A local day is whole quarters of an hour, most of which are stored hours, and where it begins with a
day of UTC it is one stored day; a long time without parts is mostly stored months. Daylight saving makes days of 23 or 25
hours, which come out right because each boundary is computed by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollway.store.rollups.sums import DAY_MS, LENGTHS, QUARTER_MS, SPANS, WEEK_MS, begins, month, quarter

Unit = Literal["hour", "day", "month"]
PERIODS_MAX: Final = 10_000
TIME_MAX: Final = 7_258_118_400_000
"""The year 2200: later times are mistakes, such as nanoseconds."""
EVERY: Final = dict.fromkeys(SPANS, TIME_MAX)
"""All spans, built to the end of time."""


class BadPeriod(ValueError):
    """A time that cannot be asked for: its zone is unknown, it is empty, or it has too many parts."""


class Piece(NamedTuple):
    """Stored rows of one span from `since` to before `until`, which belong to the period that begins at `period`."""

    period: int
    span: str
    since: int
    until: int


def pieces(
    since: int, until: int, unit: Unit | None, zone: str, built: Mapping[str, int] = EVERY
) -> list[Piece]:
    """The stored rows of each period from `since` to before `until` (Unix ms), widened to whole quarters.

    `unit` None is one period. A period at either edge is cut there. `built`: the spans to use, the
    longest first and quarters last, with the time (Unix ms) until which there are any. Raises BadPeriod.
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
        found += [Piece(period, *part) for part in _cut(a, b, tuple(built.items()))]
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


def _cut(start: int, end: int, spans: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, int, int]]:
    """The longest of these spans that lie within and are there, and shorter ones before and after them."""
    (span, built), *shorter = spans
    first, last = (start, end) if not shorter else (_up(span, start), min(_down(span, end), built))
    if first >= last:
        yield from _cut(start, end, tuple(shorter))
        return
    if start < first:
        yield from _cut(start, first, tuple(shorter))
    yield span, first, last
    if last < end:
        yield from _cut(last, end, tuple(shorter))


def _down(span: str, at: int) -> int:
    """The beginning of the span a moment lies in."""
    return begins(span, quarter(at), month(at))


def _up(span: str, at: int) -> int:
    """The first beginning of a span that is not before a moment."""
    begin = _down(span, at)
    return begin if begin == at else _down(span, begin + _LONGEST[span])


_LONGEST: Final = {**LENGTHS, "month": 31 * DAY_MS, "week": WEEK_MS}
"""From the beginning of a span to somewhere in the next."""
