"""Building longer spans once they are over, each out of shorter ones, so that a row is summed a few times in all.

A span is over when all its quarters are complete (`marks.ROLLED`). Reading and writing are apart:
`drafted` sums on a reading connection, `keep` writes a few rows at a time. Only when all rows of
all grains are written does the mark say so, and only then are they read or corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, text

from tollway.store import marks
from tollway.store.rollups.places import GRAINS
from tollway.store.rollups.sums import (
    BUILT,
    DAY_MS,
    HOUR_MS,
    LENGTHS,
    MEASURES,
    QUARTER_MS,
    SPANS,
    STORED,
    WEEK_MS,
    begins,
    month,
)
from tollway.store.schema import rollup_sum

AHEAD: Final = {
    "quarter": 8 * HOUR_MS,
    "hour": 8 * HOUR_MS,
    "watch": 2 * DAY_MS,
    "day": 4 * DAY_MS,
    "week": WEEK_MS,
    "month": 31 * DAY_MS,
}
"""How much time is summed in one reading at most; of weeks and months, which differ in length, one."""


class Draft(Struct, frozen=True):
    """The next sums of a span, up to those that begin at `until` (Unix ms): rows as the table has them."""

    span: str
    until: int
    rows: list[tuple[Any, ...]]


def clear(conn: Connection, span: str, most: int) -> int:
    """Remove up to `most` rows that a run left which did not come to its end; returns how many."""
    done = marks.value(conn, BUILT[span])
    left = f"span = '{span}' AND grain = :grain AND bucket >= :done"
    key = ", ".join(column.name for column in rollup_sum.primary_key.columns)
    gone = 0
    for grain in GRAINS:
        some = f"SELECT {key} FROM rollup_sum WHERE {left} LIMIT {int(most)}"  # noqa: S608 - a number
        query = text(f"DELETE FROM rollup_sum WHERE ({key}) IN ({some})")  # noqa: S608 - our own names
        gone += conn.execute(query, {"grain": grain, "done": done}).rowcount
    return gone


def drafted(conn: Connection, span: str) -> Draft | None:
    """The next sums of a span; None if all that are over are built."""
    done, whole = marks.value(conn, BUILT[span]), _whole(conn, span)
    if done >= whole:
        return None
    first = conn.execute(_FIRST, {"since": done}).scalar()
    if first is None or first >= whole:
        return Draft(span, whole, [])
    since = begins(span, first, month(first))
    ahead = since + AHEAD[span]
    until = min(whole, begins(span, ahead, month(ahead)))
    rows: list[tuple[Any, ...]] = []
    for grain in (grain for one, grain in STORED if one == span):
        query = text(_query(span, grain, since, until))
        rows += (tuple(row) for row in conn.execute(query))
    return Draft(span, until, rows)


_FIRST: Final = text("SELECT min(bucket) FROM rollup WHERE bucket >= :since")


def _whole(conn: Connection, span: str) -> int:
    """Until when all spans of this length are over, and the shorter ones built."""
    shorter = SPANS[SPANS.index(span) + 1 :]
    until = min(marks.value(conn, topic) for topic in (marks.ROLLED, *(BUILT[one] for one in shorter)))
    return begins(span, until - until % QUARTER_MS, month(until))


def _source(span: str, grain: str) -> str | None:
    """The longest shorter span that is stored by the same dimensions; None where the rollup itself is read."""
    shorter = SPANS[SPANS.index(span) + 1 :]
    return next((one for one in shorter if (one, grain) in STORED), None)


def _query(span: str, grain: str, since: int, until: int) -> str:
    """Everything put into the text is a number or a name of ours."""
    source = _source(span, grain)
    # Weeks and months differ in length, and one is summed at a time.
    begin = f"r.bucket - r.bucket % {LENGTHS[span]}" if span in LENGTHS else f"{since}"
    # Sums by account are found by their owner; nobody looks for the others that way.
    owner = "max(r.owner)" if "account_id" in GRAINS[grain] else "0"
    totals = ", ".join(f"sum(r.{one})" for one in MEASURES)
    where = f"r.bucket >= {since} AND r.bucket < {until}"
    table, place, join = "rollup", "r.place", ""
    if source:
        table, where = "rollup_sum", f"r.span = '{source}' AND r.grain = '{grain}' AND {where}"
    elif grain != "full":
        place, join = f"l.of_{grain}", "JOIN rollup_place l ON l.id = r.place"
    group = f"{begin}, {place}" if span in LENGTHS else place
    return (
        f"SELECT '{span}', '{grain}', {begin}, {place}, {owner}, {totals} "  # noqa: S608
        f"FROM {table} r {join} WHERE {where} GROUP BY {group}"
    )


def keep(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write some rows of a draft."""
    if not rows:
        return
    names = [column.name for column in rollup_sum.columns]
    values = [f"${n}" if conn.dialect.name == "postgresql" else "?" for n in range(1, len(names) + 1)]
    # By the driver itself, because SQLAlchemy takes ten times as long for each row.
    conn.exec_driver_sql(
        f"INSERT INTO rollup_sum ({', '.join(names)}) VALUES ({', '.join(values)})",  # noqa: S608 - our own names
        list(rows),
    )


def finish(conn: Connection, draft: Draft) -> None:
    """All rows of a draft are written: from now on they are read, and corrected."""
    marks.put(conn, BUILT[draft.span], draft.until)
