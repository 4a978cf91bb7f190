"""Up to where the books were proved, and what a proof of the rest has to look at.

A proof that finds nothing wrong leaves a *point* behind: the last sealed entry, and a time shortly
before it was made. With it go the sums of all entries up to there, one row for each account, so
that the next proof can compare counters without reading those entries again. Entries up to a seal
never get company, so the point is exact for whatever has entries; a call that has none is found by
when it finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Result, TextClause, select, text

from tollway.store import marks, sealed
from tollway.store.schema import proof_sum

MARGIN_MS: Final = 300_000
"""A call without entries that is recorded later than this after it finished is left to whole proofs."""

_QUARTER_MS: Final = 900_000


class Scope(Struct, frozen=True, kw_only=True):
    """What a proof looks at. `names`: what stands for the names in braces in its queries.

    `seq`: entries numbered up to this are proved; `since`: calls that finished before it (Unix ms);
    `seals`: the last seal that is.
    """

    names: dict[str, str]
    whole: bool
    seq: int = 0
    since: int = 0
    seals: int = 0

    def ask(self, conn: Connection, query: str) -> Result[Any]:
        """Run a query with the names filled in."""
        filled = _text(query.format(**self.names, seals=self.seals))
        values = {"seq": self.seq, "since": self.since, "quarter": self.since - self.since % _QUARTER_MS}
        return conn.execute(filled, {name: one for name, one in values.items() if f":{name}" in filled.text})

    def calls(self, conn: Connection) -> Sequence[str]:
        """The ids of the calls to look at, in order."""
        return self.ask(conn, "SELECT id FROM {call} AS c ORDER BY id").scalars().all()


@lru_cache(maxsize=200)
def _text(query: str) -> TextClause:
    return text(query)


WHOLE: Final = Scope(
    whole=True,
    names={
        "entry": "entry",
        "hold": "hold",
        "call": "call",
        "credits": "(SELECT credit AS id, sum(amount) AS amount FROM entry GROUP BY credit)",
        "debits": "(SELECT debit AS id, sum(amount) AS amount FROM entry GROUP BY debit)",
        "entered": "entry e JOIN hold h ON h.id = e.hold_id",
        "named": "true",
        "finished": "true",
        "bucket": "true",
    },
)
"""Everything there is."""

_SUMMED: Final = (
    "(SELECT id, sum(amount) AS amount FROM (SELECT account AS id, {0}ed AS amount FROM proof_sum"
    " UNION ALL SELECT {0}, amount FROM entry WHERE seq > :seq) AS moves GROUP BY id)"
)
_TOUCHED: Final = (
    "SELECT COALESCE(h.extends, h.id) AS id FROM entry e JOIN hold h ON h.id = e.hold_id WHERE e.seq > :seq"
    " UNION SELECT id FROM call WHERE finished_at >= :since"
)
"""The calls of new entries, and those that finished lately: their ids, which are also those of their first holds."""
_HOLDS: Final = f"""
    (SELECT h.* FROM ({_TOUCHED}) AS touched JOIN hold h ON h.id = touched.id
    UNION ALL SELECT h.* FROM ({_TOUCHED}) AS touched JOIN hold h ON h.extends = touched.id)
    """  # noqa: S608 - our own names
_NEW: Final = {
    "entry": "(SELECT * FROM entry WHERE seq > :seq)",
    "hold": _HOLDS,
    "call": f"(SELECT c.* FROM ({_TOUCHED}) AS touched JOIN call c ON c.id = touched.id)",  # noqa: S608 - our own names
    "credits": _SUMMED.format("credit"),
    "debits": _SUMMED.format("debit"),
    "entered": f"{_HOLDS} AS h JOIN entry e ON e.id IN ('s:' || h.id, 'o:' || h.id) AND e.hold_id = h.id",
    "named": "id IN (SELECT id FROM entry WHERE seq > :seq)",
    "finished": "finished_at >= :quarter",
    "bucket": "bucket >= :quarter",
}


class Carried(Struct, frozen=True, kw_only=True):
    """What a proof that found nothing leaves for the next: its point, and the sums that are others now.

    `whole`: it looked at everything.
    """

    whole: bool
    seq: int
    since: int
    sums: dict[int, tuple[int, int]]


def rest(conn: Connection) -> Scope | None:
    """What came after what was proved; None if nothing ever was, or the seal it ended at is gone."""
    since = marks.value(conn, marks.PROVED_SINCE)
    if not since:
        return None
    seq = marks.value(conn, marks.PROVED_SEQ)
    one = sealed.ending(conn, seq) if seq else 0
    if one is None:
        return None
    return Scope(names=_NEW, whole=False, seq=seq, since=since, seals=one)


def carried(conn: Connection, scope: Scope, now: int) -> Carried:
    """What the proof of a scope, made in the same transaction at `now` (Unix ms), leaves for the next."""
    last = sealed.head(conn)
    upto = last.last_seq if last else 0
    kept = {row.account: (row.credited, row.debited) for row in conn.execute(select(proof_sum))}
    sums: dict[int, tuple[int, int]] = dict.fromkeys(kept, (0, 0)) if scope.whole else dict(kept)
    values = {"seq": scope.seq, "upto": upto}
    for row in conn.execute(_MOVES, values):
        credited, debited = sums.get(row.id, (0, 0))
        sums[row.id] = (credited + int(row.credited), debited + int(row.debited))
    changed = {account: both for account, both in sums.items() if kept.get(account) != both}
    return Carried(whole=scope.whole, seq=upto, since=now - MARGIN_MS, sums=changed)


_MOVES: Final = text(
    """
    SELECT id, sum(credited) AS credited, sum(debited) AS debited FROM (
      SELECT credit AS id, sum(amount) AS credited, 0 AS debited FROM entry WHERE seq > :seq AND seq <= :upto GROUP BY credit
      UNION ALL
      SELECT debit, 0, sum(amount) FROM entry WHERE seq > :seq AND seq <= :upto GROUP BY debit
    ) AS moves GROUP BY id
    """
)
_KEEP: Final = text(
    """
    INSERT INTO proof_sum (account, credited, debited) VALUES (:account, :credited, :debited)
    ON CONFLICT (account) DO UPDATE SET credited = excluded.credited, debited = excluded.debited
    """
)


def keep(conn: Connection, one: Carried) -> None:
    """Write what a proof left. Whoever calls this holds the job's lease, so that nobody else does."""
    rows = [
        {"account": account, "credited": both[0], "debited": both[1]} for account, both in one.sums.items()
    ]
    if rows:
        conn.execute(_KEEP, rows)
    marks.put(conn, marks.PROVED_SEQ, one.seq)
    marks.put(conn, marks.PROVED_SINCE, one.since)
