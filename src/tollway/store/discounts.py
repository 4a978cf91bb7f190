"""Discounts of accounts and groups, as rows."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from tollway.store import schema


class Discount(Struct, frozen=True, kw_only=True):
    """What an account or a group pays less. `scope`: "account" or "group"; `hundredths` of a percent."""

    scope: str
    owner: str
    hundredths: int
    created_at: int


def put(conn: Connection, discount: Discount) -> None:
    """Set a discount in place of the one there was; 0 hundredths take it away."""
    table = schema.discount
    conn.execute(delete(table).where(table.c.scope == discount.scope, table.c.owner == discount.owner))
    if discount.hundredths:
        conn.execute(
            insert(table).values(
                scope=discount.scope,
                owner=discount.owner,
                hundredths=discount.hundredths,
                created_at=discount.created_at,
            )
        )


def listed(conn: Connection) -> list[Discount]:
    """Every discount, accounts first."""
    table = schema.discount
    rows = conn.execute(select(table).order_by(table.c.scope, table.c.owner))
    return [
        Discount(scope=row.scope, owner=row.owner, hundredths=row.hundredths, created_at=row.created_at)
        for row in rows
    ]


def by_owner(conn: Connection) -> dict[tuple[str, str], int]:
    """Hundredths of a percent by scope and owner."""
    return {(found.scope, found.owner): found.hundredths for found in listed(conn)}
