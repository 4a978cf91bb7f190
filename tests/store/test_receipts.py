"""What is on record about a call, pages of the ledger and the use of a key, on both databases."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.support.ledger import (
    balance_of,
    held_and_settled,
    hold_of,
    new_id,
    settlement_of,
    wallet_of,
)

from tollway.store import key_use, ledger_pages, receipts
from tollway.store.base import Store, Transfer
from tollway.store.ledger_pages import Asked, Page
from tollway.store.receipts import Evidence


async def evidence(store: Store, call: str) -> Evidence:
    found = await store.read(partial(receipts.evidence, call_id=call))
    assert found is not None
    return found


async def refund(store: Store, wallet: int, call: str, amount: int, at: int = 2_000) -> None:
    entry = Transfer(id=new_id(), kind="refund", wallet=wallet, amount=amount, at=at, hold_id=call)
    await store.ledger.transfer(entry)


async def test_every_entry_of_a_call_is_found(store: Store) -> None:
    """Settled within the hold and its extension, exceeded, partly absorbed, refunded twice."""
    wallet = await wallet_of(store, 30)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    more = hold_of(wallet, 5, extends=request.id)
    await store.ledger.hold(more)
    await store.ledger.settle(settlement_of(request.id, 22))
    await refund(store, wallet, request.id, 3)
    await refund(store, wallet, request.id, 1)
    other, _ = await held_and_settled(store, wallet, 1, 1)
    await refund(store, wallet, other, 1)
    found = await evidence(store, request.id)
    assert [(one.kind, one.amount) for one in found.entries] == [
        ("settle", 10),
        ("settle", 5),
        ("overage", 7),
        ("refund", 3),
        ("refund", 1),
    ]
    assert [(hold.id, hold.settled, hold.refunded) for hold in found.holds] == [
        (request.id, 10, 4),
        (more.id, 5, 0),
    ]
    assert found.call is not None and found.call.charged == 22
    assert [one.n for one in found.attempts] == [1]


async def test_what_the_operator_absorbed_is_found(store: Store) -> None:
    wallet = await wallet_of(store, 10)
    call, settled = await held_and_settled(store, wallet, 10, 14)
    assert (settled.charged, settled.absorbed) == (10, 4)
    assert [(one.id, one.amount) for one in (await evidence(store, call)).entries] == [
        (f"s:{call}", 10),
        (f"a:{call}", 4),
    ]


async def test_a_call_under_way_has_a_hold_and_nothing_else(store: Store) -> None:
    wallet = await wallet_of(store, 10)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    found = await evidence(store, request.id)
    assert (found.call, found.entries, found.holds[0].state) == (None, (), "held")
    assert await store.read(partial(receipts.evidence, call_id=new_id())) is None


async def paged(store: Store, wallet: int, **asked: Any) -> Page:
    return await store.read(partial(ledger_pages.page, wallet=wallet, asked=Asked(**asked)))


async def test_pages_of_a_ledger_carry_its_balance(store: Store) -> None:
    wallet = await wallet_of(store, 100)
    for amount in (7, 11, 13):
        call, _ = await held_and_settled(store, wallet, 20, amount)
    await refund(store, wallet, call, 13, at=9_000)
    whole = await paged(store, wallet)
    assert [entry.amount for entry in whole.entries] == [13, -13, -11, -7, 100]
    assert whole.balance == 82 == (await balance_of(store, wallet)).available
    assert not whole.more
    first = await paged(store, wallet, limit=2)
    assert (first.entries, first.more) == (whole.entries[:2], True)
    second = await paged(store, wallet, limit=2, before=first.entries[-1].seq)
    assert (second.entries, second.balance) == (whole.entries[2:4], 82)
    old = await paged(store, wallet, until=9_000)
    assert (old.entries, old.balance) == (whole.entries[1:], 69)
    assert (await paged(store, wallet, since=9_000)).entries == whole.entries[:1]
    kinds = await paged(store, wallet, kinds=("grant", "refund"))
    assert ([entry.kind for entry in kinds.entries], kinds.balance) == (["refund", "grant"], None)


async def test_the_use_of_a_key_counts_to_the_last_call(store: Store) -> None:
    wallet, key = await wallet_of(store, 100), new_id()
    for amount, finished in ((7, 1_000), (11, 2_000), (13, 3_000)):
        request = hold_of(wallet, 20)
        await store.ledger.hold(request)
        await store.ledger.settle(
            settlement_of(request.id, amount, key_id=key, account_id=key, finished_at=finished)
        )
    found = await store.read(partial(key_use.since, key_id=key, start=0, now=5_000))
    assert (found.calls, found.charged) == (3, 31)
    recent = await store.read(partial(key_use.since, key_id=key, start=2_000, now=5_000))
    assert (recent.calls, recent.charged) == (2, 24)
    assert await store.read(partial(key_use.last_used, account_id=key, key_id=key)) == 1000
