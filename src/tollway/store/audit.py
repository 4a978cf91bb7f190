"""The audit log: who changed what, through which door, with the state before and after."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, insert, select

from tollway.core import json
from tollway.store import schema


class AuditRow(Struct, frozen=True, kw_only=True):
    """One change. `source`: "cli", "api" or "start". `before` and `after` never hold a secret."""

    at: int
    actor: str
    source: str
    action: str
    target: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    seq: int = 0


def record(conn: Connection, row: AuditRow) -> None:
    """Append a row; the database numbers it."""
    conn.execute(
        insert(schema.audit).values(
            at=row.at,
            actor=row.actor,
            source=row.source,
            action=row.action,
            target=row.target,
            before=None if row.before is None else json.encode(row.before).decode(),
            after=None if row.after is None else json.encode(row.after).decode(),
        )
    )


def page(
    conn: Connection, *, target: str | None = None, before: int | None = None, limit: int = 100
) -> list[AuditRow]:
    """Changes, newest first, of one target or of all; `before` is the `seq` the page ends before."""
    table = schema.audit
    query = select(table).order_by(table.c.seq.desc()).limit(limit)
    if target is not None:
        query = query.where(table.c.target == target)
    if before is not None:
        query = query.where(table.c.seq < before)
    return [
        AuditRow(
            seq=row.seq,
            at=row.at,
            actor=row.actor,
            source=row.source,
            action=row.action,
            target=row.target,
            before=None if row.before is None else json.decode(row.before),
            after=None if row.after is None else json.decode(row.after),
        )
        for row in conn.execute(query)
    ]
