"""Idempotency keys on both databases: one call has a key, with its hold or not at all."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.support.ledger import (
    balance_of,
    books_balance,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.store import idempotency
from tollway.store.base import Claim, ClaimTaken, InsufficientFunds, Store
from tollway.store.factory import open_store
from tollway.store.idempotency import ANSWER_MS, BODY_MAX, Answer, Standing

NOW = 1_000
LATER = 10**9
ANSWER = Answer(status=200, headers=b"content-type: text/event-stream\r\n", body=b"data: x\n\n" * 5)


def claim_of(name: str, **facts: Any) -> Claim:
    values: dict[str, Any] = {"key_id": "key", "route": "POST /v1/chat/completions", "fingerprint": "f"}
    return Claim(**{**values, "name": name, "expires_at": LATER, **facts})


async def stands(store: Store, claim: Claim, now: int = NOW) -> Standing | None:
    return await store.read(partial(idempotency.find, claim=claim, now=now))


async def answered(store: Store, claim: Claim, call_id: str, answer: Answer = ANSWER) -> bool:
    return await store.write(partial(idempotency.store, claim=claim, call_id=call_id, answer=answer, now=NOW))


async def held(store: Store, wallet: int, claim: Claim, amount: int = 10) -> str:
    request = hold_of(wallet, amount, claim=claim)
    await store.ledger.hold(request)
    return request.id


async def test_a_key_goes_from_running_to_answered_and_is_the_same_ever_after(store: Store) -> None:
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    assert await stands(store, claim) is None
    call = await held(store, wallet, claim)
    assert await stands(store, claim) == Standing(state="running", call_id=call)
    with pytest.raises(ClaimTaken):
        await held(store, wallet, claim)
    assert (await balance_of(store, wallet)).held == 10
    await store.ledger.settle(settlement_of(call, 7))
    assert await answered(store, claim, call)
    assert await stands(store, claim) == Standing(state="answered", call_id=call, answer=ANSWER)
    with pytest.raises(ClaimTaken):
        await held(store, wallet, claim)
    assert not await answered(store, claim, call, Answer(status=500, headers=b"", body=b"later"))
    assert (await stands(store, claim)) == Standing(state="answered", call_id=call, answer=ANSWER)
    await books_balance(store)


async def test_another_request_under_the_same_key_is_told_apart(store: Store) -> None:
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    other = claim_of(claim.name, fingerprint="g")
    call = await held(store, wallet, claim)
    assert (await stands(store, other)) == Standing(state="other", call_id=call)
    with pytest.raises(ClaimTaken):
        await held(store, wallet, other)
    for elsewhere in (
        claim_of(claim.name, key_id="another key"),
        claim_of(claim.name, route="POST /v1/messages"),
    ):
        await held(store, wallet, elsewhere)


async def test_a_call_that_cost_nothing_frees_its_key_for_any_request(store: Store) -> None:
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    call = await held(store, wallet, claim)
    await store.ledger.settle(settlement_of(call, None))
    other = claim_of(claim.name, fingerprint="g")
    assert (await stands(store, other)) == Standing(state="free", call_id=call)
    again = await held(store, wallet, other)
    assert await stands(store, other) == Standing(state="running", call_id=again)
    assert not await answered(store, claim, call), "the key is another call's now"


async def test_an_answer_that_cost_nothing_is_not_kept(store: Store) -> None:
    """A stream that broke before anything was charged for it, and one whose settlement waits for the database."""
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    call = await held(store, wallet, claim)
    assert not await answered(store, claim, call)
    assert await stands(store, claim) == Standing(state="running", call_id=call)
    await store.ledger.settle(settlement_of(call, None))
    assert not await answered(store, claim, call)
    assert await stands(store, claim) == Standing(state="free", call_id=call)


async def test_a_hold_that_is_refused_takes_no_key(store: Store) -> None:
    wallet, claim = await wallet_of(store, 5), claim_of(new_id())
    with pytest.raises(InsufficientFunds):
        await held(store, wallet, claim)
    assert await stands(store, claim) is None
    await held(store, wallet, claim, 5)


async def test_the_same_hold_again_keeps_its_key(store: Store) -> None:
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    request = hold_of(wallet, 10, claim=claim)
    await store.ledger.hold(request)
    await store.ledger.hold(request)
    assert (await balance_of(store, wallet)).held == 10


async def test_one_of_many_at_once_gets_the_key(store: Store) -> None:
    wallet, claim = await wallet_of(store, 1_000), claim_of(new_id())
    found = await asyncio.gather(*(held(store, wallet, claim) for _ in range(32)), return_exceptions=True)
    assert sum(isinstance(one, str) for one in found) == 1
    assert sum(isinstance(one, ClaimTaken) for one in found) == 31
    assert (await balance_of(store, wallet)).held == 10


@pytest.mark.postgres
async def test_one_of_many_in_several_processes_gets_the_key(fresh: Any) -> None:
    """Also when the key is freed again and again by calls that cost nothing."""
    settings = fresh("postgresql")
    stores = [open_store(settings) for _ in range(3)]
    for one in stores:
        await one.open()
    try:
        wallet, claim = await wallet_of(stores[0], 1_000), claim_of(new_id())
        for _ in range(4):
            found = await asyncio.gather(
                *(held(stores[n % 3], wallet, claim) for n in range(24)), return_exceptions=True
            )
            won = [(n, one) for n, one in enumerate(found) if isinstance(one, str)]
            assert len(won) == 1, found
            assert all(isinstance(one, str | ClaimTaken) for one in found), found
            n, call = won[0]
            await stores[n % 3].ledger.settle(settlement_of(call, None))
        await books_balance(stores[0])
    finally:
        for one in stores:
            await one.close()


@pytest.mark.parametrize("charged", [7, 13])
async def test_a_paid_answer_that_was_lost_is_paid_back_when_it_is_asked_for_again(
    store: Store, charged: int
) -> None:
    # Its hold was of ten: all is paid back, also what was charged beyond that.
    wallet, claim = await wallet_of(store, 100), claim_of(new_id())
    call = await held(store, wallet, claim)
    await store.ledger.settle(settlement_of(call, charged, finished_at=2_000))
    soon, late = 2_000, 2_000 + ANSWER_MS + 1
    assert await stands(store, claim, late) == Standing(state="lost", call_id=call, owed=charged)
    # The process that settled it may be about to store the answer, as far as others know.
    await store.write(partial(_beat, now=soon))
    assert await stands(store, claim, soon) == Standing(state="running", call_id=call)
    again = hold_of(wallet, 10, claim=claim, created_at=late)
    await store.ledger.hold(again)
    await store.ledger.settle(settlement_of(again.id, 6))
    refund = "SELECT amount, note FROM entry WHERE hold_id = :call AND kind = 'refund'"
    assert await rows_of(store, refund, call=call) == [
        (charged, "the answer was lost; the same idempotency key runs again")
    ]
    assert (await balance_of(store, wallet)).available == 94
    await books_balance(store)


def _beat(conn: Any, now: int) -> None:
    conn.exec_driver_sql(f"UPDATE worker SET heartbeat_at = {now}")


async def test_what_is_too_large_is_remembered_without_its_body(store: Store) -> None:
    wallet = await wallet_of(store, 1_000)
    for size, kept in ((BODY_MAX, True), (BODY_MAX + 1, False)):
        claim = claim_of(new_id())
        call = await held(store, wallet, claim)
        await store.ledger.settle(settlement_of(call, 7))
        body = b"x" * size
        assert await answered(store, claim, call, Answer(status=200, headers=b"", body=body))
        found = await stands(store, claim)
        assert found is not None and found.answer is not None
        assert found.answer.body == (body if kept else None)


async def test_keys_are_forgotten_after_their_time_and_in_batches(store: Store) -> None:
    wallet = await wallet_of(store, 1_000)
    await store.write(partial(idempotency.expire, now=LATER, limit=10_000))
    old = [claim_of(new_id(), expires_at=5_000) for _ in range(5)]
    young = claim_of(new_id(), expires_at=5_001)
    for claim in (*old, young):
        call = await held(store, wallet, claim)
        await store.ledger.settle(settlement_of(call, 1))
        await answered(store, claim, call)
    assert await stands(store, old[0], 4_999) is not None
    assert await stands(store, old[0], 5_000) is None
    # An expired key may be taken before it is swept; the sweep then leaves it alone.
    request = hold_of(wallet, 10, claim=claim_of(old[0].name), created_at=5_000)
    await store.ledger.hold(request)
    assert await store.write(partial(idempotency.expire, now=5_000, limit=3)) == 3
    assert await store.write(partial(idempotency.expire, now=5_000, limit=3)) == 1
    assert await store.write(partial(idempotency.expire, now=5_000, limit=3)) == 0
    assert await stands(store, young, 5_000) is not None
    assert (await stands(store, old[0], 5_000)) == Standing(state="running", call_id=request.id)


async def test_a_process_that_dies_frees_its_keys_with_its_holds(settings: Any) -> None:
    """The second process finds the first dead, releases its holds, and the key is free: nothing was charged."""
    first = open_store(settings, owner=new_id())
    await first.open()
    wallet, claim = await wallet_of(first, 100), claim_of(new_id())
    call = await held(first, wallet, claim)
    await first.write(lambda conn: conn.exec_driver_sql("UPDATE worker SET heartbeat_at = 1"))
    await first.close()
    second = open_store(settings, owner=new_id())
    await second.open()
    try:
        await second.recover(NOW)
        assert await stands(second, claim) == Standing(state="free", call_id=call)
        await held(second, wallet, claim)
        assert (await balance_of(second, wallet)).held == 10
        await books_balance(second)
    finally:
        await second.close()
