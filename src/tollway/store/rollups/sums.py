"""What is summed over calls, and adding it to every table that has it, in one transaction.

The smallest span is a quarter of an hour, because every time zone in use is a whole number of
quarters from UTC (Nepal is +05:45): a day of any zone is made of whole rows. `rollup` has each
quarter by all dimensions; `rollup_sum` has longer spans and fewer dimensions, so that a year by
model is a few hundred rows to read.

Every quarter has two kinds of rows. *Live* ones are the sums of the calls that are there; they can
be computed afresh and replaced. *Kept* ones are the sums of calls that were deleted, added in the
transaction that deletes them, and refunds, each once. What was used is live plus kept.

The longer spans are built once, when they are over (`spans`). What changes in the rollup after
that changes them by the same differences, in the same transaction, so that they always agree.

Rows are given by the names of their dimensions and kept by the number of their place. They are put
into a table of their own first, and the rest is done by a few statements for all of them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, bindparam, select

from tollway.store.rollups import places
from tollway.store.rollups.places import GRAINS
from tollway.store.schema import mark, rollup, rollup_place, rollup_sum

QUARTER_MS: Final = 900_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
WEEK_MS: Final = 8 * DAY_MS
"""Our weeks divide a month: they begin on its 1st, 9th, 17th and 25th day, and the last one ends with it."""

DIMENSIONS: Final = places.DIMENSIONS
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
WATCH_MS: Final = 4 * HOUR_MS
SPANS: Final = ("month", "week", "day", "watch", "hour", "quarter")
"""The spans, longest first; each is made of whole ones of the next."""
STORED: Final = (
    ("quarter", "model_channel"),
    ("quarter", "key"),
    *(("hour", grain) for grain in GRAINS if grain != "full"),
    ("watch", "key"),
    ("watch", "key_model"),
    *(("day", grain) for grain in GRAINS),
    ("week", "key_model"),
    *(("month", grain) for grain in GRAINS),
)
"""The spans and grains that `rollup_sum` has, those that others are made of first; the rollup itself has all quarters."""
BUILT: Final = {span: f"built_{span}" for span in SPANS}
"""Topics of marks: spans that began before this time (Unix ms) are in `rollup_sum`."""

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


_NAMED: Final = (rollup.c.bucket, rollup.c.kept, *(rollup_place.c[name] for name in DIMENSIONS))
_VALUES: Final = tuple(rollup.c[name] for name in MEASURES)
_LIVE: Final = (
    select(*_NAMED, *_VALUES)
    .join_from(rollup, rollup_place, rollup_place.c.id == rollup.c.place)
    .where(rollup.c.bucket >= bindparam("since"), rollup.c.bucket < bindparam("until"), rollup.c.kept == 0)
)


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


def built(conn: Connection) -> dict[str, int]:
    """Until when (Unix ms) each span is in `rollup_sum`."""
    found = {row.topic: row.value for row in conn.execute(_BUILT, {"topics": list(BUILT.values())})}
    return {span: found.get(topic, 0) for span, topic in BUILT.items()}


_BUILT: Final = select(mark.c.topic, mark.c.value).where(
    mark.c.topic.in_(bindparam("topics", expanding=True))
)


def replace(conn: Connection, rows: Mapping[Place, Sums]) -> None:
    """Make rows what they are given as, and everything above them agree."""
    if rows:
        _stage(conn, rows)
        change(conn, DIFFERENCES, len(rows))


def add(conn: Connection, differences: Mapping[Place, Sums]) -> None:
    """Add to rows, which begin at nothing, and to everything above them. Rows of nothing are removed."""
    changed = {place: sums for place, sums in differences.items() if any(sums)}
    if changed:
        _stage(conn, changed)
        change(conn, GIVEN, len(changed))


def leftovers(conn: Connection, since: int, until: int) -> dict[Place, Sums]:
    """The live rows of the quarters from `since` to before `until`."""
    width = len(_NAMED)
    rows = conn.execute(_LIVE, {"since": since, "until": until})
    return {Place(*row[:width]): tuple(row[width:]) for row in rows}


STAGE: Final = "rollup_given"
"""The table that rows are put into by name."""
_CHANGED: Final = "rollup_change"
_ABOVE: Final = tuple(places.ABOVE)


def _stage(conn: Connection, rows: Mapping[Place, Sums]) -> None:
    """Put rows where the statements find them."""
    clear(conn)
    count = len(Place._fields) + len(MEASURES)
    values = [f"${n}" if conn.dialect.name == "postgresql" else "?" for n in range(1, count + 1)]
    # By the driver itself, because SQLAlchemy takes ten times as long for each row.
    conn.exec_driver_sql(
        f"INSERT INTO {STAGE} VALUES ({', '.join(values)})",  # noqa: S608 - our own names
        [(*place, *sums) for place, sums in rows.items()],
    )


def clear(conn: Connection) -> None:
    """Have the tables that rows pass through, empty."""
    for name, columns in (
        (STAGE, (*Place._fields, *MEASURES)),
        (_CHANGED, ("bucket", "kept", "place", *_ABOVE, *MEASURES)),
    ):
        types = ", ".join(f"{one} {'TEXT' if one in DIMENSIONS else 'BIGINT'} NOT NULL" for one in columns)
        conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({types})")
        conn.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - our own name


_ITS_PLACE: Final = " AND ".join(f"l.{one} = g.{one}" for one in DIMENSIONS)


def _unknown(conn: Connection) -> list[places.Dimensions]:
    """What is staged and has no place yet, or one that nothing was summed by."""
    names = ", ".join(f"g.{one}" for one in DIMENSIONS)
    rows = conn.exec_driver_sql(
        f"SELECT DISTINCT {names} FROM {STAGE} g LEFT JOIN rollup_place l ON {_ITS_PLACE} "  # noqa: S608 - our own names
        "WHERE l.of_key_model IS NULL"
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def _placed(values: str, join: str) -> str:
    """What puts the staged rows into the table of changes, by number."""
    names = ", ".join(("g.bucket", "g.kept", "l.id", *(f"l.{one}" for one in _ABOVE)))
    return (
        f"INSERT INTO {_CHANGED} SELECT {names}, {values} "  # noqa: S608 - our own names
        f"FROM {STAGE} g JOIN rollup_place l ON {_ITS_PLACE} AND l.of_key_model IS NOT NULL {join}"
    )


GIVEN: Final = _placed(", ".join(f"g.{one}" for one in MEASURES), "")
"""Takes what is staged as differences."""
DIFFERENCES: Final = _placed(
    ", ".join(f"g.{one} - COALESCE(r.{one}, 0)" for one in MEASURES),
    "LEFT JOIN rollup r ON r.bucket = g.bucket AND r.kept = g.kept AND r.place = l.id",
)
"""Takes what is staged as what the rows are to be."""
_NAMES: Final = ", ".join(column.name for column in rollup.columns)
_SOME: Final = " OR ".join(f"{one} <> 0" for one in MEASURES)
_EMPTY: Final = " AND ".join(f"{one} = 0" for one in MEASURES)
_LESS: Final = " OR ".join(f"{one} < 0" for one in MEASURES)


def change(conn: Connection, taken: str, staged: int) -> None:
    """Carry so many staged rows, `taken` as GIVEN or DIFFERENCES, to the rollup and to what is built above it."""
    if conn.exec_driver_sql(taken).rowcount != staged:
        # Some have no place yet, which is rare enough to begin again.
        conn.exec_driver_sql(f"DELETE FROM {_CHANGED}")  # noqa: S608 - our own name
        places.ensure(conn, _unknown(conn))
        conn.exec_driver_sql(taken)
    # What WHERE says also tells SQLite that the ON which follows belongs to no join.
    conn.exec_driver_sql(
        f"INSERT INTO rollup ({_NAMES}) SELECT {_NAMES} FROM {_CHANGED} WHERE {_SOME} {_grown(rollup)}"  # noqa: S608 - our own names
    )
    lowered = conn.exec_driver_sql(f"SELECT DISTINCT bucket FROM {_CHANGED} WHERE {_LESS}").scalars().all()  # noqa: S608
    for bucket in lowered:
        conn.exec_driver_sql(f"DELETE FROM rollup WHERE bucket = {int(bucket)} AND {_EMPTY}")  # noqa: S608 - a number
    done = built(conn)
    # What a deleted call takes from its live row its kept one gets: of that nothing is seen above.
    for bucket in conn.exec_driver_sql(_LATE.format(until=max(done.values()))).scalars().all():
        for statement in _corrections(int(bucket), done):
            conn.exec_driver_sql(statement)


_LATE: Final = (
    f"SELECT DISTINCT bucket FROM (SELECT bucket FROM {_CHANGED} WHERE bucket < {{until}} "  # noqa: S608 - our own names
    f"GROUP BY bucket, place HAVING {' OR '.join(f'sum({one}) <> 0' for one in MEASURES)}) AS late"
)


def _corrections(bucket: int, done: Mapping[str, int]) -> Iterable[str]:
    """What adds the changes of one quarter to the built spans it lies in."""
    names = ", ".join(column.name for column in rollup_sum.columns)
    totals = ", ".join(f"sum({one})" for one in MEASURES)
    some = " OR ".join(f"sum({one}) <> 0" for one in MEASURES)
    for span, grain in STORED:
        begin = begins(span, bucket, month(bucket))
        if begin < done[span]:
            place = "place" if grain == "full" else f"of_{grain}"
            # Sums by account are found by their owner; nobody looks for the others that way.
            owner = "max(owner)" if "account_id" in GRAINS[grain] else "0"
            yield (
                f"INSERT INTO rollup_sum ({names}) SELECT '{span}', '{grain}', {begin}, {place}, {owner}, {totals} "  # noqa: S608
                f"FROM {_CHANGED} WHERE bucket = {bucket} GROUP BY {place} HAVING {some} {_grown(rollup_sum)}"
            )
            yield (
                f"DELETE FROM rollup_sum WHERE span = '{span}' AND grain = '{grain}' AND bucket = {begin} AND {_EMPTY}"  # noqa: S608
            )


def begins(span: str, bucket: int, first: int) -> int:
    """The beginning of the span that a quarter lies in; `first` is that of its month."""
    if span == "month":
        return first
    if span == "week":
        return first + (bucket - first) // WEEK_MS * WEEK_MS
    return bucket - bucket % LENGTHS[span]


LENGTHS: Final = {"quarter": QUARTER_MS, "hour": HOUR_MS, "watch": WATCH_MS, "day": DAY_MS}
"""The spans that are equally long, in milliseconds."""


@cache
def _grown(table: Table) -> str:
    keys = ", ".join(column.name for column in table.primary_key.columns)
    grown = ", ".join(f"{one} = {table.name}.{one} + excluded.{one}" for one in MEASURES)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {grown}"
