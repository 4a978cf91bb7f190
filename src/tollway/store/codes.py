"""Redemption codes: made in batches, redeemed once, whatever the race."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection, func, insert, or_, select, update

from tollway.store import careful, grants, schema
from tollway.store.base import Transfer

CODE = schema.code
DAY_MS = 86_400_000


class Code(Struct, frozen=True, kw_only=True):
    """A code to be stored. `digest`: SHA-256 of its characters, in hex; `hint`: its last ones.

    `amount` is micro-credits; `credit_days`: how long they live once redeemed, None for ever;
    `expires_at`: until when (Unix ms) the code can be redeemed.
    """

    digest: str
    batch: str
    hint: str
    amount: int
    credit_days: int | None
    note: str | None
    created_at: int
    expires_at: int | None


class Batch(Struct, frozen=True, kw_only=True):
    """The codes of one batch: how many there are, were redeemed and were voided."""

    batch: str
    amount: int
    codes: int
    redeemed: int
    voided: int
    note: str | None
    created_at: int
    expires_at: int | None


class Redeemed(Struct, frozen=True, kw_only=True):
    """A code that was turned into credits."""

    entry_id: str
    amount: int
    expires_at: int | None


class CodeRefused(Exception):
    """A code that cannot be redeemed. `why`: "mine" if this account has redeemed it before, else "unusable"."""

    def __init__(self, why: Literal["mine", "unusable"]) -> None:
        super().__init__(why)
        self.why = why


def add(conn: Connection, codes: list[Code]) -> None:
    """Insert fresh codes."""
    conn.execute(
        insert(CODE), [{name: getattr(one, name) for name in Code.__struct_fields__} for one in codes]
    )


def redeem(conn: Connection, digest: str, *, account_id: str, wallet: int, now: int) -> Redeemed:
    """Turn a code into a grant, in this transaction. Raises CodeRefused."""
    entry_id = f"redeem:{digest}"
    usable = (
        CODE.c.digest == digest,
        CODE.c.redeemed_at.is_(None),
        CODE.c.voided_at.is_(None),
        or_(CODE.c.expires_at.is_(None), CODE.c.expires_at > now),
    )
    change = update(CODE).where(*usable)
    won = (
        conn.execute(change.values(redeemed_at=now, redeemed_by=account_id, entry_id=entry_id)).rowcount == 1
    )
    found = conn.execute(select(CODE).where(CODE.c.digest == digest)).first()
    if not won or found is None:
        raise CodeRefused("mine" if found is not None and found.redeemed_by == account_id else "unusable")
    transfer = Transfer(
        id=entry_id,
        kind="grant",
        wallet=wallet,
        amount=found.amount,
        at=now,
        note=found.note or f"code of batch {found.batch}",
    )
    careful.transfer(conn, transfer)
    ends = None if found.credit_days is None else now + found.credit_days * DAY_MS
    if ends is not None:
        grants.add(conn, transfer=transfer, expires_at=ends)
    return Redeemed(entry_id=entry_id, amount=found.amount, expires_at=ends)


def void(conn: Connection, batch: str, now: int) -> int:
    """Make the codes of a batch that nobody has redeemed worthless; returns how many."""
    change = update(CODE).where(
        CODE.c.batch == batch, CODE.c.redeemed_at.is_(None), CODE.c.voided_at.is_(None)
    )
    return conn.execute(change.values(voided_at=now)).rowcount


def batches(conn: Connection) -> list[Batch]:
    """Every batch, newest first."""
    query = select(
        CODE.c.batch,
        func.max(CODE.c.amount).label("amount"),
        func.count().label("codes"),
        func.count(CODE.c.redeemed_at).label("redeemed"),
        func.count(CODE.c.voided_at).label("voided"),
        func.max(CODE.c.note).label("note"),
        func.min(CODE.c.created_at).label("created_at"),
        func.max(CODE.c.expires_at).label("expires_at"),
    )
    rows = conn.execute(
        query.group_by(CODE.c.batch).order_by(func.min(CODE.c.created_at).desc(), CODE.c.batch)
    )
    return [Batch(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's documented mapping of a row
