"""Making the sums agree with the calls that are there, and adding refunds.

Calls are summed in the order in which they finished, each once: a transaction adds what some
thousands of them come to and moves the mark (`marks.SUMMED`) past them, all inside the database.

A call that finished before the mark and is settled only now is found by `miscounted`, which
compares counts. Its quarter is then computed afresh, with reading and writing apart: `differing`
runs on a reading connection, `sums.replace` writes a few rows at a time. What lies between is made
safe by the job's lease: one process does this at a time, and a process that lost its lease cannot
write.

A call is counted in the quarter in which it finished, which is when its ledger entries are dated.
A quarter is taken for complete when it ended `SETTLED_MS` ago; later calls are still found.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    column,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
)

from tollway.core.billing.meters import METERS
from tollway.store import marks
from tollway.store.rollups.sums import (
    DIMENSIONS,
    GIVEN,
    MEASURES,
    NOTHING,
    QUARTER_MS,
    STAGE,
    Place,
    Sums,
    add,
    change,
    clear,
    leftovers,
    plus,
    quarter,
)
from tollway.store.schema import call, rolled_refund, rollup

SETTLED_MS: Final = 1_800_000
"""A quarter that ended so long ago is taken for complete."""
RECOUNTED_MS: Final = 2 * 86_400_000
"""Quarters that are no older are recounted every hour, all others once a day."""

_IN: Final = tuple(
    name for name, one in METERS.items() if one.direction == "in" and one.unit.endswith("token")
)
_OUT: Final = tuple(
    name for name, one in METERS.items() if one.direction == "out" and one.unit.endswith("token")
)
_BUCKET: Final = call.c.finished_at - call.c.finished_at % QUARTER_MS


def _tokens(engine: str, meters: tuple[str, ...]) -> Any:
    form = (
        "COALESCE(CAST(usage AS jsonb) ->> '{0}', '0')"
        if engine == "postgresql"
        else "json_extract(usage, '$.{0}')"
    )
    one = "CAST(" + form + " AS BIGINT)" if engine == "postgresql" else "COALESCE(" + form + ", 0)"
    return literal_column(" + ".join(one.format(name) for name in meters))


def columns(engine: str) -> list[Any]:
    """What one call adds to each measure, as columns of a query on `call`, in the order of MEASURES."""
    values = {
        "calls": literal_column("1"),
        "failures": case((call.c.outcome == "failed", 1), else_=0),
        "charged": call.c.charged,
        "absorbed": call.c.absorbed,
        "refunded": literal_column("0"),
        "cost": func.coalesce(call.c.cost, 0),
        "unpriced": case((call.c.cost.is_(None), 1), else_=0),
        "tokens_in": _tokens(engine, _IN),
        "tokens_cached": _tokens(engine, ("cache_read",)),
        "tokens_out": _tokens(engine, _OUT),
    }
    return [values[name].label(name) for name in MEASURES]


def dimensions() -> list[Any]:
    """The dimensions of a call, as columns of a query on `call`."""
    return [func.coalesce(call.c[name], "").label(name) for name in DIMENSIONS]


def bucket() -> Any:
    """The quarter a call is counted in, as a column of a query on `call`."""
    return _BUCKET.label("bucket")


def pending(conn: Connection, most: int, until: int) -> int:
    """Up to when (Unix ms) to sum next, so that about `most` calls are; `until` if there are fewer before that.

    Not after the mark: all of them are summed.
    """
    since = marks.value(conn, marks.SUMMED)
    later = select(call.c.finished_at).where(call.c.finished_at >= since, call.c.finished_at < until)
    found = conn.execute(later.order_by(call.c.finished_at).offset(most).limit(1)).scalar()
    if found is None:
        return until
    # Where there is a choice whole quarters are summed, so that none of their rows is written twice.
    return quarter(found) if quarter(found) > since else max(found, since + 1)


def sum_up(conn: Connection, until: int) -> int:
    """Add the calls that finished after the mark and before `until`, and move the mark; returns how many rows changed."""
    since = marks.value(conn, marks.SUMMED)
    if until <= since:
        return 0
    clear(conn)
    rows = conn.execute(_staging(conn.dialect.name), {"since": since, "until": until}).rowcount
    if rows:
        change(conn, GIVEN, rows)
    marks.put(conn, marks.SUMMED, until)
    return rows


@cache
def _staging(engine: str) -> Any:
    """What puts the sums of calls where the rollup takes them from."""
    names = [*Place._fields, *MEASURES]
    return insert(table(STAGE, *(column(name) for name in names))).from_select(names, _summed(engine))


@cache
def _summed(engine: str) -> Any:
    """A query for the sums of the calls that are there and finished from `since` to before `until`, with the names of their rows."""
    each = (
        select(bucket(), *dimensions(), *columns(engine))
        .where(call.c.finished_at >= bindparam("since"), call.c.finished_at < bindparam("until"))
        .subquery()
    )
    names = [each.c[name] for name in ("bucket", *DIMENSIONS)]
    totals = [func.sum(each.c[name]).label(name) for name in MEASURES]
    live: Any = literal_column("0").label("kept")
    # What tells most calls apart comes first: rows are sorted by this, and compared as far as they are alike.
    apart = ("key_id", "model", "channel_id", "bucket", "account_id", "project_id")
    return select(names[0], live, *names[1:], *totals).group_by(*(each.c[name] for name in apart))


def counted(conn: Connection, since: int, until: int) -> dict[Place, Sums]:
    """The sums of the calls that are there and finished from `since` to before `until`."""
    rows = conn.execute(_summed(conn.dialect.name), {"since": since, "until": until})
    return {Place(*row[:7]): tuple(int(one) for one in row[7:]) for row in rows}


def differing(conn: Connection, since: int, until: int) -> dict[Place, Sums]:
    """The live rows that are not what the calls say, with what they should be.

    From a quarter's beginning to another's, or to where calls are summed.
    """
    wanted = counted(conn, since, until)
    present = leftovers(conn, since, until)
    found = {place: sums for place, sums in wanted.items() if present.get(place) != sums}
    found.update({place: NOTHING for place in present if place not in wanted})
    return found


def finished(conn: Connection, since: int, until: int) -> int:
    """How many calls finished from `since` to before `until`."""
    query = select(func.count()).where(call.c.finished_at >= since, call.c.finished_at < until)
    return conn.execute(query).scalar_one()


def miscounted(conn: Connection, since: int, until: int) -> list[int]:
    """The quarters from `since` to before `until` whose live rows count more or fewer calls than there are."""
    window = and_(call.c.finished_at >= since, call.c.finished_at < until)
    counts = select(_BUCKET, func.count()).where(window).group_by(_BUCKET)
    there = {row[0]: row[1] for row in conn.execute(counts)}
    live = (
        select(rollup.c.bucket, func.sum(rollup.c.calls))
        .where(rollup.c.bucket >= since, rollup.c.bucket < until, rollup.c.kept == 0)
        .group_by(rollup.c.bucket)
    )
    summed = {row[0]: int(row[1]) for row in conn.execute(live)}
    return sorted(one for one in there.keys() | summed.keys() if there.get(one, 0) != summed.get(one, 0))


_REFUNDS: Final = text(
    """
    SELECT e.id, e.at, e.amount, COALESCE(c.account_id, a.owner) AS account_id,
      COALESCE(c.project_id, '') AS project_id, COALESCE(c.key_id, '') AS key_id,
      COALESCE(c.model, '') AS model, COALESCE(c.channel_id, '') AS channel_id
    FROM entry e JOIN ledger_account a ON a.id = e.credit
      JOIN hold h ON h.id = e.hold_id
      LEFT JOIN call c ON c.id = COALESCE(h.extends, h.id)
      LEFT JOIN rolled_refund r ON r.entry_id = e.id
    WHERE e.kind = 'refund' AND e.at >= :since AND r.entry_id IS NULL
    ORDER BY e.at LIMIT :most
    """
)


def add_refunds(conn: Connection, since: int, most: int) -> int:
    """Add up to `most` refunds dated `since` or later that are not in yet, each once; returns how many.

    A refund is counted when it was made, with its call's dimensions; where the call is deleted by
    then, only its account is known.
    """
    rows = conn.execute(_REFUNDS, {"since": since, "most": most}).all()
    if not rows:
        return 0
    conn.execute(insert(rolled_refund), [{"entry_id": row.id} for row in rows])
    differences: dict[Place, Sums] = {}
    for place, sums in map(_refund, rows):
        differences[place] = plus(differences.get(place, NOTHING), sums)
    add(conn, differences)
    return len(rows)


def _refund(row: Row[Any]) -> tuple[Place, Sums]:
    place = Place(quarter(row.at), 1, *(getattr(row, name) for name in DIMENSIONS))
    return place, tuple(row.amount if name == "refunded" else 0 for name in MEASURES)


def portions(rows: dict[Place, Sums], size: int) -> Iterator[dict[Place, Sums]]:
    """The rows in runs of at most `size`, so that no transaction is long."""
    items = sorted(rows.items())
    for at in range(0, len(items), size):
        yield dict(items[at : at + size])
