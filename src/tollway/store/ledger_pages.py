"""Pages of a wallet's entries with the balance after each: newest first, by position, narrowed down on request."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select, text

from tollway.store import careful, schema
from tollway.store.wallets import Entry

ENTRY = schema.entry


class Asked(Struct, frozen=True, kw_only=True):
    """Which entries: before a position, of some kinds, from `since` to before `until` (Unix ms).

    `balance`: the balance after the first entry before that position, if the page before told it.
    """

    before: int | None = None
    balance: int | None = None
    kinds: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int = 50


class Page(Struct, frozen=True, kw_only=True):
    """Entries as their wallet sees them (amounts signed), whether there are more, and the balance after the first.

    Balances are what was credited less what was debited, in micro-credits.
    """

    entries: tuple[Entry, ...]
    more: bool
    balance: int | None


def page(conn: Connection, wallet: int, asked: Asked) -> Page:
    """One page. With `kinds` there are no balances, because what lies between the entries is not read."""
    found = [_entry(row, wallet) for side in _sides(wallet) for row in conn.execute(_query(side, asked))]
    found.sort(key=lambda entry: -entry.seq)
    shown = tuple(found[: asked.limit])
    balance = None
    if shown and not asked.kinds:
        known = asked.balance if asked.until is None else None
        balance = _balance_after(conn, wallet, shown[0].seq) if known is None else known
    return Page(entries=shown, more=len(found) > asked.limit, balance=balance)


def _sides(wallet: int) -> tuple[tuple[ColumnElement[bool], ...], ...]:
    # The partial index on credits is used where its condition is said in its own words.
    return (ENTRY.c.debit == wallet,), (ENTRY.c.credit == wallet, text("entry.credit > 4"))  # type: ignore[return-value]


def _query(side: tuple[ColumnElement[bool], ...], asked: Asked) -> Any:
    query = select(ENTRY).where(*side)
    if asked.before is not None:
        query = query.where(ENTRY.c.seq < asked.before)
    if asked.kinds:
        query = query.where(ENTRY.c.kind.in_(asked.kinds))
    if asked.since is not None:
        query = query.where(ENTRY.c.at >= asked.since)
    if asked.until is not None:
        query = query.where(ENTRY.c.at < asked.until)
    return query.order_by(ENTRY.c.seq.desc()).limit(asked.limit + 1)


def _balance_after(conn: Connection, wallet: int, seq: int) -> int:
    """The balance when an entry had been written: today's, less all that came later."""
    now = careful.balance(conn, wallet)
    later = [
        int(
            conn.execute(
                select(func.coalesce(func.sum(ENTRY.c.amount), 0)).where(*side, ENTRY.c.seq > seq)
            ).scalar_one()
        )
        for side in _sides(wallet)
    ]
    return now.credited - now.debited + later[0] - later[1]


def _entry(row: Any, wallet: int) -> Entry:
    return Entry(
        seq=row.seq,
        id=row.id,
        kind=row.kind,
        amount=row.amount if row.credit == wallet else -row.amount,
        hold_id=row.hold_id,
        note=row.note,
        at=row.at,
    )
