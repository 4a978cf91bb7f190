"""Stores, wallets, holds and settlements for tests, with every field given a plain value."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from sqlalchemy import Connection, insert, select, text

from tollway.store import schema
from tollway.store.base import (
    AttemptRecord,
    Balance,
    CallRecord,
    HoldRequest,
    Settled,
    Settlement,
    Store,
    Transfer,
)
from tollway.store.insert import insert_once
from tollway.store.verify import Report, verify

_numbers = itertools.count(1)
PRICE = 1_000_000
"""The price version of calls: far from those the database numbers by itself."""


def new_id() -> str:
    """An id like a call's: unlike any other, growing with time."""
    return f"req_{next(_numbers):08d}{uuid.uuid4().hex[:12]}"


def call_of(hold_id: str, **facts: Any) -> CallRecord:
    values: dict[str, Any] = {
        "id": hold_id, "account_id": "acc", "project_id": "prj", "key_id": "key", "model": "m",
        "channel_id": "ch", "upstream_model": "um", "dialect": "openai_chat", "route": "/v1/chat/completions",
        "stream": True, "status": 200, "outcome": "ok", "error_code": None, "flags": (),
        "usage": {"input": 10, "output": 5}, "price_version": PRICE, "held": 0, "charged": 0, "absorbed": 0,
        "cost": 3, "created_at": 1000, "first_token_at": 1500, "finished_at": 2000, "ip": "127.0.0.1",
        "user_agent": "test",
    }  # fmt: skip
    return CallRecord(**{**values, **facts})


def attempt_of(call_id: str, n: int = 1, **facts: Any) -> AttemptRecord:
    values: dict[str, Any] = {
        "channel_id": "ch", "upstream_model": "um", "status": 200, "error": None, "latency_ms": 9,
        "first_byte_ms": 4, "cost": 3, "created_at": 1000,
    }  # fmt: skip
    return AttemptRecord(call_id=call_id, n=n, **{**values, **facts})


def hold_of(wallet: int, amount: int, **facts: Any) -> HoldRequest:
    values: dict[str, Any] = {
        "id": new_id(),
        "budget": None,
        "price_version": PRICE,
        "created_at": 1000,
        "expires_at": 9000,
    }
    return HoldRequest(**{**values, "wallet": wallet, "amount": amount, **facts})


def settlement_of(hold_id: str, amount: int | None, *, tries: int = 1, **facts: Any) -> Settlement:
    """A settlement of a call that the last of its tries answered.

    What is asked for is what the usage costs, at one micro-credit a token.
    """
    call = call_of(hold_id, **{"usage": {"output": amount} if amount else {}, **facts})
    failed = (attempt_of(hold_id, n, status=503, error="status", cost=None) for n in range(1, tries))
    return Settlement(
        hold_id=hold_id,
        amount=amount,
        reason="done",
        call=call,
        attempts=(*failed, attempt_of(hold_id, tries)),
    )


def priced(conn: Connection) -> None:
    """The price version that calls are made by, at one micro-credit a token."""
    if conn.execute(
        select(schema.price_version.c.version).where(schema.price_version.c.version == PRICE)
    ).first():
        return
    insert_once(conn, schema.model, {"id": "m", "created_at": 1})
    rates = '{"input": 1000000, "output": 1000000}'
    insert_once(
        conn, schema.price_version, {"version": PRICE, "model_id": "m", "rates": rates, "created_at": 1}
    )


async def wallet_of(store: Store, granted: int) -> int:
    """A fresh wallet with an opening grant, and a price for its calls."""

    def make(conn: Connection) -> int:
        priced(conn)
        row = insert(schema.ledger_account).values(kind="wallet", owner=new_id())
        return int(conn.execute(row.returning(schema.ledger_account.c.id)).scalar_one())

    wallet = await store.write(make)
    if granted:
        await store.ledger.transfer(Transfer(id=new_id(), kind="grant", wallet=wallet, amount=granted, at=1))
    return wallet


async def balance_of(store: Store, account: int) -> Balance:
    table = schema.ledger_account
    query = select(table.c.credited, table.c.debited, table.c.held, table.c.overdraft).where(
        table.c.id == account
    )
    return await store.read(lambda conn: Balance(*conn.execute(query).one()))


async def rows_of(store: Store, query: str, **values: Any) -> list[tuple[Any, ...]]:
    return await store.read(lambda conn: [tuple(row) for row in conn.execute(text(query), values)])


async def held_and_settled(store: Store, wallet: int, amount: int, charge: int | None) -> tuple[str, Settled]:
    request = hold_of(wallet, amount)
    await store.ledger.hold(request)
    return request.id, await store.ledger.settle(settlement_of(request.id, charge))


async def books(store: Store) -> Report:
    return await store.read(verify)


async def books_balance(store: Store) -> None:
    report = await books(store)
    assert report.ok, [check for check in report.checks if not check.ok]
