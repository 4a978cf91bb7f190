"""Calls and attempts, read back: one with its attempts, and pages of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from tollway.core import json
from tollway.store import records, schema
from tollway.store.base import AttemptRecord, CallRecord


def by_id(conn: Connection, call_id: str) -> CallRecord | None:
    """One call."""
    found = conn.execute(select(schema.call).where(schema.call.c.id == call_id)).first()
    return None if found is None else _call(found)


def attempts(conn: Connection, call_id: str) -> list[AttemptRecord]:
    """A call's attempts in their order."""
    table = schema.attempt
    rows = conn.execute(select(table).where(table.c.call_id == call_id).order_by(table.c.n)).all()
    return [_attempt(row) for row in rows] or _within(conn, call_id)


def _within(conn: Connection, call_id: str) -> list[AttemptRecord]:
    """The attempt that is kept in its call's row, see `records.settled_rows`."""
    table = schema.call
    row = conn.execute(select(table).where(table.c.id == call_id, table.c.tried_at.is_not(None))).first()
    if row is None:
        return []
    only = AttemptRecord(
        call_id=row.id,
        n=1,
        channel_id=row.channel_id,
        upstream_model=row.upstream_model,
        status=records.WENT_WELL,
        error=None,
        latency_ms=row.tried_ms,
        first_byte_ms=row.tried_first_ms,
        cost=row.cost,
        created_at=row.tried_at,
    )
    return [only]


def page(  # noqa: PLR0913 - one question, all but the connection by keyword
    conn: Connection,
    *,
    account_id: str | None = None,
    key_id: str | None = None,
    model: str | None = None,
    outcome: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[CallRecord]:
    """Calls, newest first, of one account or of all; `before` is the call the page ends before.

    Who asks for a key should name its account as well, because calls are found by that.
    """
    table = schema.call
    # Ids sort by time, so the primary key serves for all; an account has an index of its own.
    order = (table.c.id,) if account_id is None else (table.c.created_at, table.c.id)
    query = select(table).order_by(*(one.desc() for one in order)).limit(limit)
    wanted = {"account_id": account_id, "key_id": key_id, "model": model, "outcome": outcome}
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if before is not None:
        edge = conn.execute(select(*order).where(table.c.id == before)).first()
        query = query.where(table.c.id < before if edge is None else tuple_(*order) < tuple_(*edge))
    return [_call(row) for row in conn.execute(query)]


def _attempt(row: Row[Any]) -> AttemptRecord:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping of a row
    fields["dropped"] = tuple(json.decode(row.dropped)) if row.dropped else ()
    return AttemptRecord(**fields)


def _call(row: Row[Any]) -> CallRecord:
    mapping = row._mapping  # noqa: SLF001 - SQLAlchemy's documented mapping of a row
    fields = {name: mapping[name] for name in CallRecord.__struct_fields__}
    fields["stream"] = bool(row.stream)
    fields["flags"] = tuple(json.decode(row.flags))
    fields["usage"] = json.decode(row.usage)
    return CallRecord(**fields)
