"""Calls and attempts, read back: one with its attempts, pages of them, and what a key has used."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, func, select

from tollway.core import json
from tollway.store import schema
from tollway.store.base import AttemptRecord, CallRecord


class KeyUse(Struct, frozen=True, kw_only=True):
    """What a key has done since its creation: calls, micro-credits charged, time of the last call.

    Where that call was deleted, its time is the quarter of an hour it finished in.
    """

    calls: int
    charged: int
    last_used_at: int | None


def by_id(conn: Connection, call_id: str) -> CallRecord | None:
    """One call."""
    found = conn.execute(select(schema.call).where(schema.call.c.id == call_id)).first()
    return None if found is None else _call(found)


def attempts(conn: Connection, call_id: str) -> list[AttemptRecord]:
    """A call's attempts in their order."""
    table = schema.attempt
    rows = conn.execute(select(table).where(table.c.call_id == call_id).order_by(table.c.n))
    return [_attempt(row) for row in rows]


def page(
    conn: Connection, *, account_id: str | None = None, before: int | None = None, limit: int = 100
) -> list[CallRecord]:
    """Calls, newest first, of one account or of all; `before` is a creation time the page ends before."""
    table = schema.call
    if account_id is None:
        # Ids sort by time, so the primary key serves; an account has an index of its own.
        query = select(table).order_by(table.c.id.desc())
    else:
        query = select(table).where(table.c.account_id == account_id)
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc())
    if before is not None:
        query = query.where(table.c.created_at < before)
    query = query.limit(limit)
    return [_call(row) for row in conn.execute(query)]


def use_of_key(conn: Connection, account_id: str, key_id: str) -> KeyUse:
    """What a key has done; reads the calls of its account, and the sums of those that were deleted."""
    table, sums = schema.call, schema.rollup
    query = select(
        func.count(), func.coalesce(func.sum(table.c.charged), 0), func.max(table.c.created_at)
    ).where(table.c.account_id == account_id, table.c.key_id == key_id)
    count, charged, last = conn.execute(query).one()
    gone = select(
        func.coalesce(func.sum(sums.c.calls), 0),
        func.coalesce(func.sum(sums.c.charged), 0),
        func.max(sums.c.bucket),
    ).where(sums.c.account_id == account_id, sums.c.key_id == key_id, sums.c.kept == 1, sums.c.calls > 0)
    more, paid, before = conn.execute(gone).one()
    return KeyUse(calls=count + int(more), charged=int(charged) + int(paid), last_used_at=last or before)


def _attempt(row: Row[Any]) -> AttemptRecord:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping of a row
    fields["dropped"] = tuple(json.decode(row.dropped)) if row.dropped else ()
    return AttemptRecord(**fields)


def _call(row: Row[Any]) -> CallRecord:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping of a row
    fields["stream"] = bool(row.stream)
    fields["flags"] = tuple(json.decode(row.flags))
    fields["usage"] = json.decode(row.usage)
    return CallRecord(**fields)
