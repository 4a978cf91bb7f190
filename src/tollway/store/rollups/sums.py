"""What is summed over calls, and adding it to every table that has it, in one transaction.

The smallest span is a quarter of an hour, because every time zone in use is a whole number of
quarters from UTC (Nepal is +05:45): a day of any zone is made of whole rows. `rollup` has each
quarter by all dimensions; `rollup_sum` has longer spans and fewer dimensions, so that a year by
model is a few hundred rows to read.

Every quarter has two kinds of rows. *Live* ones are the sums of the calls that are there; they are
computed afresh and replaced, so that running it twice, or late, makes no difference. *Kept* ones
are the sums of calls that were deleted, added in the transaction that deletes them, and refunds,
each once. What was used is live plus kept. The longer spans change by the same differences, in
the same transaction, so that they always agree.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, and_, delete, select, tuple_

from tollway.store.schema import rollup, rollup_sum

QUARTER_MS: Final = 900_000
DAY_MS: Final = 86_400_000

DIMENSIONS: Final = ("account_id", "project_id", "key_id", "model", "channel_id")
MEASURES: Final = (
    "calls",
    "failures",
    "charged",
    "absorbed",
    "refunded",
    "cost",
    "unpriced",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
)
GRAINS: Final = {
    "all": (),
    "key": ("account_id", "project_id", "key_id"),
    "model": ("model",),
    "channel": ("channel_id",),
    "key_model": ("account_id", "project_id", "key_id", "model"),
    "full": DIMENSIONS,
}
"""The dimensions of each grain of `rollup_sum`, fewest first; the others are ''."""
FINE: Final = ("key_model", "full")
"""Grains of which quarters are not stored, because `rollup` itself has hardly more rows."""
STORED: Final = tuple(
    (span, grain)
    for span in ("quarter", "day", "month")
    for grain in GRAINS
    if span != "quarter" or grain not in FINE
)
"""The spans and grains that `rollup_sum` has."""

Sums = tuple[int, ...]
"""The measures in their order."""
NOTHING: Final[Sums] = (0,) * len(MEASURES)


class Place(NamedTuple):
    """One row of `rollup`: a quarter (Unix ms of its beginning), live or kept, and the dimensions."""

    bucket: int
    kept: int
    account_id: str
    project_id: str
    key_id: str
    model: str
    channel_id: str


_PLACE: Final = tuple(rollup.c[name] for name in Place._fields)
_VALUES: Final = tuple(rollup.c[name] for name in MEASURES)


def plus(one: Sums, other: Sums) -> Sums:
    """The sum of two."""
    return tuple(map(operator.add, one, other))


def minus(one: Sums, other: Sums) -> Sums:
    """The difference of two."""
    return tuple(map(operator.sub, one, other))


def quarter(at: int) -> int:
    """The quarter a moment lies in."""
    return at - at % QUARTER_MS


def month(at: int) -> int:
    """The beginning of the month (UTC) a moment lies in."""
    return _month(at - at % DAY_MS)


@lru_cache(maxsize=4096)
def _month(at: int) -> int:
    day = datetime.fromtimestamp(at // 1000, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000


def as_they_are(conn: Connection, places: Iterable[Place]) -> dict[Place, Sums]:
    """The rows of these places that exist."""
    wanted = list(places)
    if not wanted:
        return {}
    query = select(*_PLACE, *_VALUES).where(tuple_(*_PLACE).in_(wanted))
    width = len(_PLACE)
    return {Place(*row[:width]): tuple(row[width:]) for row in conn.execute(query)}


def replace(conn: Connection, rows: Mapping[Place, Sums]) -> None:
    """Make rows what they are given as, and everything above them agree."""
    before = as_they_are(conn, rows)
    add(conn, {place: minus(sums, before.get(place, NOTHING)) for place, sums in rows.items()})


def add(conn: Connection, differences: Mapping[Place, Sums]) -> None:
    """Add to rows, which begin at nothing, and to everything above them. Rows of nothing are removed."""
    changed = {place: sums for place, sums in differences.items() if any(sums)}
    if not changed:
        return
    _stage(conn, changed)
    for statement in _additions():
        conn.exec_driver_sql(statement)
    lowered = {place.bucket for place, sums in changed.items() if min(sums) < 0}
    if lowered:
        nothing = (column == 0 for column in _VALUES)
        conn.execute(delete(rollup).where(rollup.c.bucket.in_(lowered), *nothing))


def leftovers(conn: Connection, since: int, until: int) -> dict[Place, Sums]:
    """The live rows of the quarters from `since` to before `until`."""
    query = select(*_PLACE, *_VALUES).where(
        and_(rollup.c.bucket >= since, rollup.c.bucket < until, rollup.c.kept == 0)
    )
    width = len(_PLACE)
    return {Place(*row[:width]): tuple(row[width:]) for row in conn.execute(query)}


def _stage(conn: Connection, rows: Mapping[Place, Sums]) -> None:
    """Put rows where the statements of `_additions` find them, with the month each is in."""
    columns = (*Place._fields, "month", *MEASURES)
    types = ", ".join(f"{one} {'TEXT' if one in DIMENSIONS else 'BIGINT'} NOT NULL" for one in columns)
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGE} ({types})")
    conn.exec_driver_sql(f"DELETE FROM {_STAGE}")  # noqa: S608 - our own name
    values = [f"${n}" if conn.dialect.name == "postgresql" else "?" for n in range(1, len(columns) + 1)]
    # By the driver itself, because SQLAlchemy takes ten times as long for each row.
    conn.exec_driver_sql(
        f"INSERT INTO {_STAGE} VALUES ({', '.join(values)})",  # noqa: S608 - our own names
        [(*place, month(place.bucket), *sums) for place, sums in rows.items()],
    )


_STAGE: Final = "rollup_change"
_BUCKETS: Final = {"quarter": "bucket", "day": f"bucket - bucket % {DAY_MS}", "month": "month"}


@cache
def _additions() -> tuple[str, ...]:
    """What adds the staged rows to every table: a statement for the rows themselves, one for each span and grain."""
    names = ", ".join((*Place._fields, *MEASURES))
    found = [f"INSERT INTO rollup ({names}) SELECT {names} FROM {_STAGE} WHERE true {_grown(rollup)}"]  # noqa: S608
    names = ", ".join(column.name for column in rollup_sum.columns)
    totals = ", ".join(f"sum({one})" for one in MEASURES)
    some = " OR ".join(f"sum({one}) <> 0" for one in MEASURES)
    for span, grain in STORED:
        dimensions = ", ".join(one if one in GRAINS[grain] else "''" for one in DIMENSIONS)
        groups = ", ".join((_BUCKETS[span], *GRAINS[grain]))
        # "WHERE true" tells SQLite that the ON which follows belongs to no join.
        found.append(
            f"INSERT INTO rollup_sum ({names}) SELECT '{span}', '{grain}', {_BUCKETS[span]}, {dimensions}, {totals} "  # noqa: S608
            f"FROM {_STAGE} WHERE true GROUP BY {groups} HAVING {some} {_grown(rollup_sum)}"
        )
    return tuple(found)


def _grown(table: Table) -> str:
    keys = ", ".join(column.name for column in table.primary_key.columns)
    grown = ", ".join(f"{one} = {table.name}.{one} + excluded.{one}" for one in MEASURES)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {grown}"
