"""What one call of a key may cost at most, by model, as rows."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, insert, select

from tollway.store import schema

EVERY: Final = "*"
"""Stands for every model without a cap of its own."""

CAP: Final = schema.model_cap


def put(conn: Connection, *, key_id: str, model: str, amount: int | None, now: int) -> None:
    """Set a cap in place of the one there was; None takes it away."""
    conn.execute(delete(CAP).where(CAP.c.key_id == key_id, CAP.c.model == model))
    if amount is not None:
        conn.execute(insert(CAP).values(key_id=key_id, model=model, amount=amount, created_at=now))


def of_key(conn: Connection, key_id: str) -> tuple[tuple[str, int], ...]:
    """A key's caps as (model, micro-credits), in the order of models."""
    rows = conn.execute(select(CAP.c.model, CAP.c.amount).where(CAP.c.key_id == key_id).order_by(CAP.c.model))
    return tuple((row.model, row.amount) for row in rows)


def copy(conn: Connection, old: str, new: str, now: int) -> None:
    """Give a key the caps of the one it replaces."""
    for model, amount in of_key(conn, old):
        put(conn, key_id=new, model=model, amount=amount, now=now)
