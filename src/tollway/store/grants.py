"""Granted credits that expire: lots, what has been spent of each, and taking back what has not.

A wallet is one balance; lots only say which part of it ends when. What a wallet spends comes from
the lot that expires first. That is worked out when it matters, which is when a lot begins or ends:
in between the lots of a wallet do not change, so that its spending since the last time can be put
down to them in one go, and no call writes more for it.
"""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, func, select, text, update

from tollway.store import careful, schema
from tollway.store.base import Transfer
from tollway.store.insert import insert_once

LOT = schema.lot
MARK = schema.lot_mark
ENTRY = schema.entry


class Lot(Struct, frozen=True, kw_only=True):
    """Credits of one grant that expire. `left` = amount - used - expired, in micro-credits."""

    entry_id: str
    wallet: int
    amount: int
    used: int
    expired: int
    expires_at: int

    @property
    def left(self) -> int:
        return self.amount - self.used - self.expired


def add(conn: Connection, *, transfer: Transfer, expires_at: int) -> None:
    """Note that a grant, which this transaction writes, expires. Once for each grant."""
    allocate(conn, transfer.wallet, transfer.at)
    row = {
        "entry_id": transfer.id,
        "wallet": transfer.wallet,
        "amount": transfer.amount,
        "granted_at": transfer.at,
        "expires_at": expires_at,
    }
    insert_once(conn, LOT, row)


def of_wallet(conn: Connection, wallet: int) -> list[Lot]:
    """The lots of a wallet that are neither spent nor expired, in the order in which they are spent."""
    query = select(LOT).where(LOT.c.wallet == wallet, LOT.c.closed_at.is_(None))
    rows = conn.execute(query.order_by(LOT.c.expires_at, LOT.c.entry_id))
    return [
        Lot(
            entry_id=row.entry_id,
            wallet=row.wallet,
            amount=row.amount,
            used=row.used,
            expired=row.expired,
            expires_at=row.expires_at,
        )
        for row in rows
    ]


def allocate(conn: Connection, wallet: int, now: int) -> None:
    """Put down what a wallet has spent since the last time to its lots, the first to expire first."""
    spent = _spent(conn, wallet)
    if insert_once(conn, MARK, {"wallet": wallet, "spent": spent}):
        return
    mark = conn.execute(select(MARK.c.spent).where(MARK.c.wallet == wallet)).scalar_one()
    rest = spent - mark
    if rest <= 0:
        return  # Refunds exceed what was spent; what is spent next makes up for it.
    for lot in of_wallet(conn, wallet):
        taken = min(lot.left, rest)
        rest -= taken
        _change(conn, lot, now, used=lot.used + taken, expired=lot.expired, closed=taken == lot.left)
    conn.execute(update(MARK).where(MARK.c.wallet == wallet).values(spent=spent))


def due(conn: Connection, now: int, limit: int) -> list[str]:
    """The grants whose time is over and of which something may be left, oldest first."""
    query = select(LOT.c.entry_id).where(text("lot.closed_at IS NULL"), LOT.c.expires_at <= now)
    return list(conn.execute(query.order_by(LOT.c.expires_at, LOT.c.entry_id).limit(limit)).scalars())


def expire(conn: Connection, entry_id: str, now: int) -> int:
    """Take back what is left of a grant whose time is over; returns how much (micro-credits).

    What is on hold for calls under way stays: those calls began in time. The rest of such a lot is
    taken when they have ended, so a lot may take several runs.
    """
    found = conn.execute(select(LOT.c.wallet).where(LOT.c.entry_id == entry_id)).scalar()
    if found is None:
        return 0
    allocate(conn, found, now)
    lot = next((one for one in of_wallet(conn, found) if one.entry_id == entry_id), None)
    if lot is None or lot.expires_at > now:
        return 0
    balance = careful.balance(conn, lot.wallet)
    free = max(0, balance.credited - balance.debited - balance.held)
    taken = min(lot.left, free)
    if taken:
        entry = Transfer(
            id=f"expire:{entry_id}:{lot.expired}",
            kind="expire",
            wallet=lot.wallet,
            amount=taken,
            at=now,
            note=f"what was left of {entry_id}",
        )
        careful.transfer(conn, entry)
    closed = taken == lot.left or not balance.held
    _change(conn, lot, now, used=lot.used, expired=lot.expired + taken, closed=closed)
    return taken


def _change(conn: Connection, lot: Lot, now: int, *, used: int, expired: int, closed: bool) -> None:
    values = {"used": used, "expired": expired, "closed_at": now if closed else None}
    conn.execute(update(LOT).where(LOT.c.entry_id == lot.entry_id).values(**values))


def _spent(conn: Connection, wallet: int) -> int:
    """What a wallet has spent in all: what left it, less refunds and what expired."""
    refunds = select(func.coalesce(func.sum(ENTRY.c.amount), 0)).where(
        ENTRY.c.credit == wallet, text("entry.credit > 4"), ENTRY.c.kind == "refund"
    )
    expired = select(func.coalesce(func.sum(LOT.c.expired), 0)).where(LOT.c.wallet == wallet)
    debited = careful.balance(conn, wallet).debited
    return debited - int(conn.execute(refunds).scalar_one()) - int(conn.execute(expired).scalar_one())
