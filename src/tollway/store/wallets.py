"""Reading the ledger for people: balances of wallets and pages of entries. Nothing here writes."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from sqlalchemy import BigInteger, Connection, Row, and_, cast, func, literal, or_, select, text

from tollway.store import owners, schema
from tollway.store.base import LEASE_PREFIX, Balance

_LEASE: Final = func.substr(schema.hold.c.id, 1, len(LEASE_PREFIX)) == LEASE_PREFIX


class Entry(Struct, frozen=True, kw_only=True):
    """One entry as a wallet sees it: `amount` is negative where it took credits from the wallet."""

    seq: int
    id: str
    kind: str
    amount: int
    hold_id: str | None
    note: str | None
    at: int


class HoldState(Struct, frozen=True, kw_only=True):
    """A hold as it stands. `state`: "held", "settled" or "released".

    `charged`: what was settled and what exceeded the hold; `refunded`: what came back of both.
    """

    id: str
    wallet: int
    amount: int
    state: str
    charged: int
    refunded: int
    price_version: int


def balance(conn: Connection, wallet: int) -> Balance | None:
    """A wallet's balance as people see it: what is kept ready for calls in leases counts as available."""
    table = schema.ledger_account
    held = table.c.held - func.coalesce(_leased(table.c.id), 0)
    found = conn.execute(
        select(table.c.credited, table.c.debited, held, table.c.overdraft).where(table.c.id == wallet)
    ).first()
    return None if found is None else Balance(*found)


def _leased(wallet: Any) -> Any:
    table = schema.hold
    amount = cast(func.sum(table.c.amount), BigInteger)  # PostgreSQL adds integers up to decimals
    return select(amount).where(table.c.wallet == wallet, owners.OPEN, _LEASE).scalar_subquery()


def owner(conn: Connection, wallet: int) -> str:
    """The id of the account a wallet belongs to; "" if there is no such wallet."""
    table = schema.ledger_account
    return conn.execute(select(table.c.owner).where(table.c.id == wallet)).scalar() or ""


def open_holds(conn: Connection, wallet: int) -> int:
    """How many calls have an open hold of a wallet."""
    table = schema.hold
    query = select(func.count()).where(table.c.wallet == wallet, owners.OPEN, ~_LEASE)
    return conn.execute(query).scalar_one()


def entries(conn: Connection, wallet: int, *, before: int | None, limit: int) -> list[Entry]:
    """A page of a wallet's entries, newest first; `before` is the `seq` the page ends before.

    Two indexed queries are merged rather than one OR asked, because an OR over two columns makes
    both databases sort the whole wallet.
    """
    table = schema.entry
    found: list[Row[Any]] = []
    for side in (table.c.debit, table.c.credit):
        query = select(table).where(side == wallet)
        if side is table.c.credit:
            # Said in the words of the partial index, or the databases would not know it applies.
            query = query.where(text("entry.credit > 4"))
        if before is not None:
            query = query.where(table.c.seq < before)
        found += conn.execute(query.order_by(table.c.seq.desc()).limit(limit)).all()
    found.sort(key=lambda row: -row.seq)
    return [_entry(row, wallet) for row in found[:limit]]


def entry(conn: Connection, entry_id: str, wallet: int) -> Entry | None:
    """One entry by its id, as a wallet sees it."""
    table = schema.entry
    query = select(table).where(
        and_(table.c.id == entry_id, or_(table.c.debit == wallet, table.c.credit == wallet))
    )
    found = conn.execute(query).first()
    return None if found is None else _entry(found, wallet)


def hold(conn: Connection, hold_id: str) -> HoldState | None:
    """A hold by its id, which is its call's id."""
    table = schema.hold
    found = conn.execute(select(table, beyond(table.c.id).label("over")).where(table.c.id == hold_id)).first()
    if found is None:
        return None
    return HoldState(
        id=found.id,
        wallet=found.wallet,
        amount=found.amount,
        state=found.state,
        charged=(found.settled or 0) + found.over,
        refunded=found.refunded + found.refunded_over,
        price_version=found.price_version,
    )


def beyond(hold_id: Any) -> Any:
    """What was charged beyond a hold, as a column of a query that has the hold's id."""
    table = schema.entry
    amount = select(table.c.amount).where(table.c.id == literal("o:").concat(hold_id)).scalar_subquery()
    return func.coalesce(amount, 0)


def budget_spent(conn: Connection, key_id: str) -> list[tuple[str, Balance]]:
    """The budget periods of a key with what was spent and held in each, oldest first."""
    table = schema.ledger_account
    rows = conn.execute(
        select(table).where(table.c.kind == "budget", table.c.owner == key_id).order_by(table.c.period)
    )
    return [(row.period, Balance(row.credited, row.debited, row.held, row.overdraft)) for row in rows]


def _entry(row: Row[Any], wallet: int) -> Entry:
    return Entry(
        seq=row.seq,
        id=row.id,
        kind=row.kind,
        amount=row.amount if row.credit == wallet else -row.amount,
        hold_id=row.hold_id,
        note=row.note,
        at=row.at,
    )
