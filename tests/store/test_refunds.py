"""Refunds of all that a call was charged, also where that was more than its hold, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.ledger import (
    balance_of,
    books_balance,
    held_and_settled,
    new_id,
    rows_of,
    wallet_of,
)

from tollway.store import receipts, wallets
from tollway.store.base import Balance, IllegalOperation, Store, Transfer

HELD, CHARGED = 100, 130


async def refund(store: Store, wallet: int, call: str, amount: int, name: str | None = None) -> Balance:
    entry = Transfer(id=name or new_id(), kind="refund", wallet=wallet, amount=amount, at=3_000, hold_id=call)
    return await store.ledger.transfer(entry)


async def beyond_its_hold(store: Store) -> tuple[int, str]:
    wallet = await wallet_of(store, 1000)
    call, settled = await held_and_settled(store, wallet, HELD, CHARGED)
    assert settled.charged == CHARGED
    return wallet, call


# What is asked for in turn, each with whether it is given.
TURNS = [
    [(CHARGED, True), (1, False)],
    [(CHARGED + 1, False), (CHARGED, True)],
    [(40, True), (80, True), (11, False), (10, True), (1, False)],
    [(HELD, True), (30, True), (1, False)],
    [(HELD, True), (31, False), (29, True), (2, False), (1, True)],
    [(99, True), (1, True), (1, True), (29, True), (1, False)],
]


@pytest.mark.parametrize("turns", TURNS)
async def test_refunds_reach_what_was_charged_beyond_the_hold_and_no_further(
    store: Store, turns: list[tuple[int, bool]]
) -> None:
    wallet, call = await beyond_its_hold(store)
    given = 0
    for amount, possible in turns:
        if possible:
            given += amount
            assert (await refund(store, wallet, call, amount)).available == 1000 - CHARGED + given
        else:
            with pytest.raises(IllegalOperation, match="refunds stay within what was charged"):
                await refund(store, wallet, call, amount)
        hold = await store.read(lambda conn: wallets.hold(conn, call))
        assert hold is not None
        assert (hold.charged, hold.refunded) == (CHARGED, given)
        await books_balance(store)
    parts = await rows_of(store, "SELECT settled, refunded, refunded_over FROM hold WHERE id = :c", c=call)
    assert parts == [(HELD, min(given, HELD), max(0, given - HELD))]
    found = await store.read(lambda conn: receipts.evidence(conn, call))
    assert found is not None
    assert sum(one.refunded for one in found.holds) == given
    assert sum(one.amount for one in found.entries if one.kind == "refund") == given


async def test_a_refund_that_is_run_again_is_made_once(store: Store) -> None:
    wallet, call = await beyond_its_hold(store)
    for _ in range(2):
        assert (await refund(store, wallet, call, 120, f"refund:{call}:once")).available == 990
    await books_balance(store)


async def test_of_many_refunds_at_once_those_that_fit_are_made(store: Store) -> None:
    wallet, call = await beyond_its_hold(store)
    found = await asyncio.gather(
        *(refund(store, wallet, call, 20) for _ in range(12)), return_exceptions=True
    )
    assert sum(isinstance(one, Balance) for one in found) == CHARGED // 20
    assert all(isinstance(one, Balance | IllegalOperation) for one in found), found
    assert (await balance_of(store, wallet)).available == 1000 - CHARGED + CHARGED // 20 * 20
    await books_balance(store)


async def test_what_the_operator_absorbed_is_not_refunded(store: Store) -> None:
    wallet = await wallet_of(store, 110)
    call, settled = await held_and_settled(store, wallet, HELD, CHARGED)
    assert (settled.charged, settled.absorbed) == (HELD, CHARGED - HELD)
    with pytest.raises(IllegalOperation):
        await refund(store, wallet, call, HELD + 1)
    assert (await refund(store, wallet, call, HELD)).available == 110
    await books_balance(store)
