"""All that is on record about one call: its hold, its entries, its attempts and the price it was held at."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Row, select, text

from tollway.core.routing.models import Price
from tollway.store import calls, models, schema
from tollway.store.base import AttemptRecord, CallRecord

ENTRIES_MAX: Final = 500


class Reserved(Struct, frozen=True, kw_only=True):
    """A hold with its times. `state`: "held", "settled" or "released"; `extends`: the hold it adds to."""

    id: str
    wallet: int
    amount: int
    state: str
    settled: int | None
    refunded: int
    reason: str | None
    price_version: int
    extends: str | None
    created_at: int
    closed_at: int | None


class Booked(Struct, frozen=True, kw_only=True):
    """An entry of a call. `amount` is micro-credits, as entered; `kind` says which way they went."""

    id: str
    kind: str
    amount: int
    note: str | None
    at: int


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of a call. `call` is None while it runs, and for one whose process died.

    `holds`: its hold, then those that extended it. `price`: None if that version cannot be read.
    """

    call: CallRecord | None
    attempts: tuple[AttemptRecord, ...]
    holds: tuple[Reserved, ...]
    entries: tuple[Booked, ...]
    price: Price | None


class Names(Struct, frozen=True, kw_only=True):
    """What the ids of a call's record are called: by key, project, account and channel; ids where a row is gone."""

    account: str
    project: str
    key: str
    channels: dict[str, str]


def evidence(conn: Connection, call_id: str) -> Evidence | None:
    """All about a call by its id, None if there is neither a record nor a hold."""
    call = calls.by_id(conn, call_id)
    holds = _holds(conn, call_id)
    if call is None and not holds:
        return None
    version = call.price_version if call else holds[0].price_version
    return Evidence(
        call=call,
        attempts=tuple(calls.attempts(conn, call_id)),
        holds=holds,
        entries=_entries(conn, holds),
        price=models.price(conn, version),
    )


def names(conn: Connection, call: CallRecord, channel_ids: set[str]) -> Names:
    """The names behind a call's ids, for the operator."""
    channel = schema.channel
    rows = conn.execute(select(channel.c.id, channel.c.name).where(channel.c.id.in_(channel_ids)))
    return Names(
        account=_name(conn, schema.account, call.account_id),
        project=_name(conn, schema.project, call.project_id),
        key=_name(conn, schema.api_key, call.key_id),
        channels={one: one for one in channel_ids} | {row.id: row.name for row in rows},
    )


def _name(conn: Connection, table: Any, row_id: str) -> str:
    return conn.execute(select(table.c.name).where(table.c.id == row_id)).scalar() or row_id


def _holds(conn: Connection, call_id: str) -> tuple[Reserved, ...]:
    table = schema.hold
    # Two questions rather than an OR, so that each has its index.
    found = conn.execute(select(table).where(table.c.id == call_id)).all()
    more = conn.execute(select(table).where(table.c.extends == call_id).order_by(table.c.id)).all()
    return tuple(_reserved(row) for row in (*found, *more))


def _reserved(row: Row[Any]) -> Reserved:
    return Reserved(
        id=row.id,
        wallet=row.wallet,
        amount=row.amount,
        state=row.state,
        settled=row.settled,
        refunded=row.refunded + row.refunded_over,
        reason=row.reason,
        price_version=row.price_version,
        extends=row.extends,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def _entries(conn: Connection, holds: tuple[Reserved, ...]) -> tuple[Booked, ...]:
    """The entries of holds, found by their ids; only refunds have ids of people's own choosing."""
    table = schema.entry
    ids = [f"{kind}:{hold.id}" for hold in holds for kind in ("s", "b", "p", "o", "ob", "op", "a")]
    query = select(table).where(table.c.id.in_(ids)).order_by(table.c.seq)
    found = list(conn.execute(query))
    for hold in holds:
        if hold.refunded:
            refunds = select(table).where(
                text("entry.kind = 'refund'"),  # in the words of its partial index
                table.c.at >= (hold.closed_at or hold.created_at),
                table.c.hold_id == hold.id,
            )
            found += conn.execute(refunds.order_by(table.c.seq).limit(ENTRIES_MAX))
    return tuple(
        Booked(id=row.id, kind=row.kind, amount=row.amount, note=row.note, at=row.at) for row in found
    )
