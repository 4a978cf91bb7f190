"""Deleting calls and attempts that are old enough, a few at a time, without losing what they add up to.

Only calls that are rolled up and whose ledger entries are sealed go; their holds and entries stay
for ever. The transaction that deletes calls moves their sums from the live rows of the rollup to
the kept ones, so that what was used is the same before and after, and a crash in between is
impossible. Transactions are short, and the caller pauses between them: calls under way wait for
none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, func, select

from tollway.store import marks, sealed
from tollway.store.rollups import fill
from tollway.store.rollups.sums import NOTHING, QUARTER_MS, Place, Sums, add, leftovers, minus, plus, quarter
from tollway.store.schema import attempt, call, entry

BATCH: Final = 100
"""Calls deleted in one transaction."""


def oldest(conn: Connection) -> int | None:
    """When the oldest call that is there finished (Unix ms)."""
    return conn.execute(select(func.min(call.c.finished_at))).scalar()


def prune(conn: Connection, before: int, most: int = BATCH) -> int:
    """Delete up to `most` calls that finished before `before`, with their attempts; returns how many.

    0: there are none, or the oldest are not rolled up or not sealed yet.
    """
    before = min(before, marks.value(conn, marks.ROLLED))
    columns = (
        call.c.id,
        call.c.finished_at,
        fill.bucket(),
        *fill.dimensions(),
        *fill.columns(conn.dialect.name),
    )
    query = select(*columns).where(call.c.finished_at < before).order_by(call.c.finished_at, call.c.id)
    rows = conn.execute(query.limit(most)).all()
    ids = [row.id for row in rows]
    if not rows or not _sealed(conn, ids):
        return 0
    add(conn, _moved(rows))
    conn.execute(delete(attempt).where(attempt.c.call_id.in_(ids)))
    conn.execute(delete(call).where(call.c.id.in_(ids)))
    marks.advance(conn, marks.PRUNED, rows[-1].finished_at + 1)
    _sweep(conn, {row.bucket for row in rows})
    return len(rows)


def _sealed(conn: Connection, ids: list[str]) -> bool:
    names = [f"{kind}:{one}" for one in ids for kind in ("s", "o", "a")]
    newest = conn.execute(select(func.max(entry.c.seq)).where(entry.c.id.in_(names))).scalar()
    if newest is None:
        return True
    last = sealed.head(conn)
    return last is not None and newest <= last.last_seq


def _moved(rows: Sequence[Any]) -> dict[Place, Sums]:
    """What leaves the live rows and enters the kept ones."""
    found: dict[Place, Sums] = {}
    for row in rows:
        place, sums = Place(row.bucket, 1, *row[3:8]), tuple(int(one) for one in row[8:])
        found[place] = plus(found.get(place, NOTHING), sums)
    live = {place._replace(kept=0): minus(NOTHING, sums) for place, sums in found.items()}
    return {**found, **live}


def _sweep(conn: Connection, buckets: set[int]) -> None:
    """A quarter without calls has no live rows, whatever they were when its last call went."""
    left: dict[Place, Sums] = {}
    for one in buckets:
        window = (call.c.finished_at >= one, call.c.finished_at < one + QUARTER_MS)
        if not conn.execute(select(exists().where(*window))).scalar():
            left.update(leftovers(conn, quarter(one), one + QUARTER_MS))
    add(conn, {place: minus(NOTHING, sums) for place, sums in left.items()})
