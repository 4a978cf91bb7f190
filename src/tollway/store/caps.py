"""What one call of a key may cost at most, by model, as rows: the operator's caps, and those of the key's holder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Table, bindparam, delete, insert, select

from tollway.store import schema

EVERY: Final = "*"
"""Stands for every model without a cap of its own."""

CAP: Final = schema.model_cap
"""Caps that the operator set."""
OWN: Final = schema.own_cap
"""Caps that whoever holds the key set on it; a call must keep both."""

# Made once: making a statement takes longer than running it.
_OF_KEYS: Final = {
    table: select(table.c.key_id, table.c.model, table.c.amount)
    .where(table.c.key_id.in_(bindparam("keys", expanding=True)))
    .order_by(table.c.key_id, table.c.model)
    for table in (CAP, OWN)
}

Caps = tuple[tuple[str, int], ...]
"""Caps as (model, micro-credits), in the order of models."""


def put(
    conn: Connection, *, key_id: str, model: str, amount: int | None, now: int, table: Table = CAP
) -> None:
    """Set a cap in place of the one there was; None takes it away."""
    conn.execute(delete(table).where(table.c.key_id == key_id, table.c.model == model))
    if amount is not None:
        conn.execute(insert(table).values(key_id=key_id, model=model, amount=amount, created_at=now))


def of_key(conn: Connection, key_id: str, table: Table = CAP) -> Caps:
    """A key's caps."""
    return of_keys(conn, (key_id,), table).get(key_id, ())


def of_keys(conn: Connection, key_ids: Sequence[str], table: Table = CAP) -> dict[str, Caps]:
    """The caps of several keys, by key; those without any are left out."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in conn.execute(_OF_KEYS[table], {"keys": key_ids}):
        found.setdefault(row.key_id, []).append((row.model, row.amount))
    return {key_id: tuple(caps) for key_id, caps in found.items()}


def copy(conn: Connection, old: str, new: str, now: int) -> None:
    """Give a key the caps of the one it replaces."""
    for table in (CAP, OWN):
        for model, amount in of_key(conn, old, table):
            put(conn, key_id=new, model=model, amount=amount, now=now, table=table)
