"""What accounts are to be told about their money: low balances, and the events that tell of them.

Events are rows of an outbox: whoever delivers them marks them as sent. Each change of state makes
one event, in the transaction that notes the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, select, text, update

from tollway.core import json
from tollway.store import schema, wallets
from tollway.store.insert import insert_once

LOW = schema.low_balance
EVENT = schema.money_event
ACCOUNT = schema.ledger_account


class Event(Struct, frozen=True, kw_only=True):
    """Something an account is to be told. `details` are plain JSON; amounts in them are micro-credits.

    `seen_at`, `seen_by`: when somebody said that they know, and who.
    """

    id: str
    kind: str
    account_id: str
    at: int
    details: dict[str, Any]
    seen_at: int | None = None
    seen_by: str | None = None


class Watch(Struct, frozen=True, kw_only=True):
    """A wallet that is watched: `below` how much (micro-credits), and `since` when it is, None if it is not."""

    below: int
    since: int | None


def watch(conn: Connection, wallet: int, below: int | None) -> None:
    """Tell when a wallet has less than this available; None stops it."""
    conn.execute(delete(LOW).where(LOW.c.wallet == wallet))
    if below is not None:
        conn.execute(insert(LOW).values(wallet=wallet, below=below))


def watched(conn: Connection, wallet: int) -> Watch | None:
    """How a wallet is watched."""
    found = conn.execute(select(LOW.c.below, LOW.c.since).where(LOW.c.wallet == wallet)).first()
    return None if found is None else Watch(below=found.below, since=found.since)


def look(conn: Connection, now: int) -> list[Event]:
    """Note which watched wallets have become low or are so no more; returns the events that were made."""
    available = ACCOUNT.c.credited + ACCOUNT.c.overdraft - ACCOUNT.c.debited - ACCOUNT.c.held
    query = select(LOW.c.wallet, LOW.c.below, LOW.c.since, ACCOUNT.c.owner, available.label("available"))
    rows = conn.execute(
        query.join(ACCOUNT, ACCOUNT.c.id == LOW.c.wallet).where(
            (available < LOW.c.below) == LOW.c.since.is_(None)
        )
    ).all()
    made = []
    for row in rows:
        low = row.available < row.below
        if low and (shown := wallets.balance(conn, row.wallet)) is not None and shown.available >= row.below:
            continue  # What it lacks is kept ready for its calls in a lease.
        conn.execute(update(LOW).where(LOW.c.wallet == row.wallet).values(since=now if low else None))
        kind = "balance.low" if low else "balance.restored"
        event = Event(
            id=f"{kind}:{row.wallet}:{now}",
            kind=kind,
            account_id=row.owner,
            at=now,
            details={"available": row.available, "below": row.below},
        )
        if tell(conn, event):
            made.append(event)
    return made


def tell(conn: Connection, event: Event) -> bool:
    """Put an event into the outbox, once for each id."""
    return insert_once(
        conn,
        EVENT,
        {
            "id": event.id,
            "kind": event.kind,
            "account_id": event.account_id,
            "at": event.at,
            "details": json.encode(event.details).decode(),
        },
    )


def unsent(conn: Connection, limit: int) -> list[Event]:
    """Events nobody has been told yet, oldest first."""
    query = select(EVENT).where(text("money_event.sent_at IS NULL")).order_by(EVENT.c.at, EVENT.c.id)
    return [_event(row) for row in conn.execute(query.limit(limit))]


def sent(conn: Connection, event_id: str, now: int) -> bool:
    """Mark an event as told; False if it was already."""
    change = update(EVENT).where(EVENT.c.id == event_id, EVENT.c.sent_at.is_(None))
    return conn.execute(change.values(sent_at=now)).rowcount == 1


def events(conn: Connection, *, account_id: str | None, seen: bool, limit: int) -> list[Event]:
    """Events of one account or of all, newest first; `seen`: also those that somebody has seen."""
    query = select(EVENT).order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).limit(limit)
    if account_id is not None:
        query = query.where(EVENT.c.account_id == account_id)
    if not seen:
        query = query.where(EVENT.c.seen_at.is_(None))
    return [_event(row) for row in conn.execute(query)]


def event(conn: Connection, event_id: str) -> Event | None:
    """One event."""
    found = conn.execute(select(EVENT).where(EVENT.c.id == event_id)).first()
    return None if found is None else _event(found)


def see(conn: Connection, event_ids: Sequence[str], by: str, now: int) -> int:
    """Note that somebody has seen events; returns how many nobody had seen."""
    change = update(EVENT).where(EVENT.c.id.in_(event_ids), EVENT.c.seen_at.is_(None))
    return conn.execute(change.values(seen_at=now, seen_by=by)).rowcount


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        kind=row.kind,
        account_id=row.account_id,
        at=row.at,
        details=json.decode(row.details.encode()),
        seen_at=row.seen_at,
        seen_by=row.seen_by,
    )
