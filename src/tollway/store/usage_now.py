"""What was used up to this moment: stored sums as far as they go, and the calls and refunds since then."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Connection, text

from tollway.store.rollups.fill import counted
from tollway.store.rollups.periods import pieces
from tollway.store.rollups.sums import DIMENSIONS, MEASURES, QUARTER_MS, Place, Sums, quarter
from tollway.store.rollups.usage import COLUMNS, UNITS, By, Used, fresh_until, usage

_REFUNDS: Final = text(
    """
    SELECT e.at, e.amount, COALESCE(c.account_id, a.owner) AS account_id, COALESCE(c.project_id, '') AS project_id,
      COALESCE(c.key_id, '') AS key_id, COALESCE(c.model, '') AS model, COALESCE(c.channel_id, '') AS channel_id
    FROM entry e JOIN ledger_account a ON a.id = e.credit JOIN hold h ON h.id = e.hold_id
      LEFT JOIN call c ON c.id = COALESCE(h.extends, h.id)
    WHERE e.kind = 'refund' AND e.at >= :since AND e.at < :until
    """
)


def used(
    conn: Connection,
    *,
    since: int,
    until: int,
    by: Sequence[By] = (),
    zone: str = "UTC",
    only: dict[str, str],
) -> list[Used]:
    """What was used from `since` to before `until` (Unix ms, widened to whole quarters of an hour).

    `by` and `zone` as in `rollups.usage`; `only` narrows it down: ids by "account", "project", "key",
    "model" or "channel". Raises BadPeriod.
    """
    unit = next((one for one in by if one in UNITS), None)
    start, end = since - since % QUARTER_MS, until + -until % QUARTER_MS
    fresh = min(max(fresh_until(conn), start), end)
    found = usage(conn, since=start, until=fresh, by=by, zone=zone, **only) if start < fresh else []
    if fresh == end:
        return found
    wanted = {COLUMNS[name]: value for name, value in only.items()}
    grouped = [COLUMNS[name] for name in by if name in COLUMNS]
    known = {_name(one, grouped): one for one in found}
    asked = pieces(fresh, end, unit, zone)
    starts = [one.since for one in asked]
    for place, sums in _since(conn, fresh, end):
        if any(getattr(place, column) != value for column, value in wanted.items()):
            continue
        at = asked[bisect_right(starts, place.bucket) - 1].period if unit else None
        one = _of(at, place, grouped, sums)
        name = _name(one, grouped)
        known[name] = _plus(known[name], one) if name in known else one
    return sorted(
        known.values(), key=lambda one: (one.at or 0, -one.charged, -one.calls, _name(one, grouped)[1:])
    )


def _since(conn: Connection, start: int, end: int) -> Iterator[tuple[Place, Sums]]:
    yield from counted(conn, start, end).items()
    for row in conn.execute(_REFUNDS, {"since": start, "until": end}):
        place = Place(quarter(row.at), 1, *(getattr(row, name) for name in DIMENSIONS))
        yield place, tuple(row.amount if name == "refunded" else 0 for name in MEASURES)


def _of(at: int | None, place: Place, grouped: Iterable[str], sums: Sums) -> Used:
    facts: dict[str, Any] = dict.fromkeys(COLUMNS.values())
    facts |= {column: getattr(place, column) for column in grouped}
    facts |= dict(zip(MEASURES, sums, strict=True))
    return Used(at=at, **facts)


def _plus(one: Used, other: Used) -> Used:
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in MEASURES})


def _name(one: Used, grouped: Iterable[str]) -> tuple[Any, ...]:
    return (one.at, *(getattr(one, column) or "" for column in grouped))
