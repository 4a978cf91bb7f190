"""Seals over the ledger: a chain of digests that nobody can change an old entry under.

A seal covers the entries between the seal before it and its `last_seq`: their count, their sum, and
the SHA-256 of the digest before it followed by every row, column by column, as JSON. Changing,
adding or deleting an entry anywhere breaks its seal, and hiding that takes rewriting every later
one; whoever has noted the latest digest elsewhere sees that, too.

On PostgreSQL a number may be taken long before its entry appears, so only entries up to a
*horizon* are sealed: the last number that was visible when every transaction that is older than
it has ended. SQLite has one writer and needs no such care.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, func, insert, select, text

from tollway.core import json
from tollway.store.schema import entry, seal

SEAL_MAX: Final = 20_000
"""Entries under one seal at most."""
GENESIS: Final = "0" * 64
"""What comes before the first seal."""

_COLUMNS: Final = (
    entry.c.seq, entry.c.id, entry.c.debit, entry.c.credit, entry.c.amount,
    entry.c.kind, entry.c.hold_id, entry.c.note, entry.c.at,
)  # fmt: skip
_OLDER: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND xact_start <= to_timestamp(CAST(:at AS double precision) / 1000)"
)


class Seal(Struct, frozen=True, kw_only=True):
    """One seal. `entries` and `amount` (micro-credits) are the count and sum of what it covers."""

    n: int
    first_seq: int
    last_seq: int
    entries: int
    amount: int
    previous: str
    digest: str


def head(conn: Connection) -> Seal | None:
    """The latest seal."""
    row = conn.execute(select(seal).order_by(seal.c.n.desc()).limit(1)).first()
    return None if row is None else _seal(row)


def ending(conn: Connection, seq: int) -> int | None:
    """The number of the seal whose last entry has this number."""
    return conn.execute(select(seal.c.n).where(seal.c.last_seq == seq)).scalar()


def horizon(conn: Connection) -> int:
    """The last entry's number as of now; 0 without entries."""
    return conn.execute(select(func.max(entry.c.seq))).scalar() or 0


def settled_since(conn: Connection, at: int) -> bool:
    """Whether every transaction that had begun at `at` (Unix ms, the database's clock) has ended."""
    if conn.dialect.name != "postgresql":
        return True
    return not conn.execute(_OLDER, {"at": at}).scalar_one()


def drafted(conn: Connection, upto: int) -> Seal | None:
    """The next seal, over at most `SEAL_MAX` entries numbered up to `upto`; None if there are none."""
    before = head(conn)
    after = before.last_seq if before else 0
    query = select(*_COLUMNS).where(entry.c.seq > after, entry.c.seq <= upto)
    rows = conn.execute(query.order_by(entry.c.seq).limit(SEAL_MAX)).all()
    if not rows:
        return None
    return Seal(
        n=before.n + 1 if before else 1,
        first_seq=rows[0].seq,
        last_seq=rows[-1].seq,
        entries=len(rows),
        amount=sum(row.amount for row in rows),
        previous=before.digest if before else GENESIS,
        digest=_digest(before.digest if before else GENESIS, rows),
    )


def affix(conn: Connection, one: Seal, now: int) -> None:
    """Write a drafted seal. The database refuses one that another process wrote in between."""
    values = {name: getattr(one, name) for name in one.__struct_fields__}
    conn.execute(insert(seal).values(**values, sealed_at=now))


def count(conn: Connection) -> int:
    """How many seals there are."""
    return conn.execute(select(func.count()).select_from(seal)).scalar_one()


def broken(conn: Connection, since: int = 0) -> Iterator[tuple[str, str]]:
    """Each seal numbered above `since` that does not fit, and why."""
    before: Any = None
    if since:
        before = conn.execute(select(seal).where(seal.c.n == since)).first()
    for row in conn.execute(select(seal).where(seal.c.n > since).order_by(seal.c.n)).all():
        why = _chained(row, before) or _covers(conn, row, before.last_seq if before else 0)
        if why:
            yield f"seal {row.n}", why
        before = row


def _chained(row: Any, before: Any) -> str:
    if row.n != (before.n + 1 if before else 1):
        return "the seal before it is missing"
    if row.previous != (before.digest if before else GENESIS):
        return "it does not continue the seal before it"
    if before is not None and row.first_seq <= before.last_seq:
        return "it overlaps the seal before it"
    return ""


def _covers(conn: Connection, row: Any, after: int) -> str:
    query = select(*_COLUMNS).where(entry.c.seq > after, entry.c.seq <= row.last_seq).order_by(entry.c.seq)
    rows = conn.execute(query).all()
    if len(rows) != row.entries:
        return f"{len(rows)} entries up to {row.last_seq}, sealed {row.entries}"
    amount = sum(one.amount for one in rows)
    if amount != row.amount:
        return f"its entries sum to {amount}, sealed {row.amount}"
    if _digest(row.previous, rows) != row.digest:
        return f"an entry from {row.first_seq} to {row.last_seq} was changed"
    return ""


def _digest(previous: str, rows: Sequence[Any]) -> str:
    return hashlib.sha256(previous.encode() + json.encode([tuple(row) for row in rows])).hexdigest()


def _seal(row: Any) -> Seal:
    return Seal(
        n=row.n,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        entries=row.entries,
        amount=row.amount,
        previous=row.previous,
        digest=row.digest,
    )
