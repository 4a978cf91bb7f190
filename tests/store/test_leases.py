"""Leases: a busy wallet's calls are held in memory, and the books say nothing else than without."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger import (
    balance_of,
    books_balance,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.config import Settings
from tollway.store import alerts, wallets
from tollway.store.base import Balance, IllegalOperation, InsufficientFunds, Store, Transfer
from tollway.store.factory import open_store
from tollway.store.leases import FEWEST, HOT_HOLDS, SHARE, Leases

RICH = 1_000_000


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await done():
            await asyncio.sleep(0.01)


async def leases_of(store: Store, wallet: int) -> list[tuple[int, str]]:
    found = await rows_of(
        store,
        "SELECT amount, state FROM hold WHERE wallet = :wallet AND substr(id, 1, 6) = 'lease_' ORDER BY id",
        wallet=wallet,
    )
    return [(int(amount), str(state)) for amount, state in found]


async def leased(store: Store, wallet: int) -> bool:
    return any(state == "held" for _, state in await leases_of(store, wallet))


async def busy(store: Store, ledger: Leases, wallet: int, amount: int = 10) -> None:
    """Let so many calls come that the wallet has a lease; all of them are over."""
    while not await leased(store, wallet):
        ids = [(await _held(ledger, wallet, amount)) for _ in range(HOT_HOLDS)]
        for one in ids:
            await ledger.settle(settlement_of(one, None))


async def _held(ledger: Leases, wallet: int, amount: int) -> str:
    request = hold_of(wallet, amount)
    await ledger.hold(request)
    return request.id


async def shown(store: Store, wallet: int) -> Balance:
    found = await store.read(lambda conn: wallets.balance(conn, wallet))
    assert found is not None
    return found


async def test_a_busy_wallet_is_held_within_one_hold(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    request = hold_of(wallet, 30)
    assert (await ledger.hold(request)).held >= 30
    assert await rows_of(store, "SELECT id FROM hold WHERE id = :id", id=request.id) == []

    settled = await ledger.settle(settlement_of(request.id, 12))
    assert (settled.first, settled.charged, settled.absorbed) == (True, 12, 0)
    assert (settled.balance.held, settled.balance.available) == (0, RICH - 12)
    (row,) = await rows_of(
        store, "SELECT amount, state, settled, lease IS NULL FROM hold WHERE id = :id", id=request.id
    )
    assert row == (30, "settled", 12, False)
    assert await rows_of(store, "SELECT amount FROM entry WHERE id = :id", id=f"s:{request.id}") == [(12,)]
    assert await shown(store, wallet) == Balance(RICH, 12, 0)

    await ledger.close()
    assert not await leased(store, wallet)
    assert await balance_of(store, wallet) == Balance(RICH, 12, 0)
    await books_balance(store)


async def test_settling_again_tells_what_was_done(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    one, two = await _held(ledger, wallet, 30), await _held(ledger, wallet, 30)
    first = await ledger.settle(settlement_of(one, 12))
    again = await ledger.settle(settlement_of(one, 12))
    assert (first.first, again.first, again.charged) == (True, False, 12)
    assert (await ledger.settle(settlement_of(two, None))).charged == 0
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(RICH, 12, 0)
    await books_balance(store)


async def test_what_exceeds_the_bound_is_overage(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    one = await _held(ledger, wallet, 30)
    settled = await ledger.settle(settlement_of(one, 35))
    assert (settled.charged, settled.absorbed) == (35, 0)
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(RICH, 35, 0)
    await books_balance(store)


@pytest.mark.parametrize("afforded", [1, 7, FEWEST * SHARE - 1])
async def test_a_poor_wallet_gets_none(store: Store, afforded: int) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, afforded * 10)
    requests = [hold_of(wallet, 10) for _ in range(afforded + 20)]
    found = await asyncio.gather(*map(ledger.hold, requests), return_exceptions=True)
    assert sum(isinstance(one, Balance) for one in found) == afforded
    assert sum(isinstance(one, InsufficientFunds) for one in found) == 20
    assert await leases_of(store, wallet) == []
    await ledger.close()


async def test_exactly_what_is_afforded_is_held(store: Store) -> None:
    """Many callers empty a wallet that was rich enough for leases: nobody is refused for their sake, nothing is overspent."""
    ledger, wallet = Leases(store.ledger), await wallet_of(store, 5_000)
    served: list[str] = []

    async def caller() -> None:
        while True:
            request = hold_of(wallet, 10)
            try:
                await ledger.hold(request)
            except InsufficientFunds:
                return
            served.append(request.id)

    await asyncio.gather(*(caller() for _ in range(16)))
    assert len(served) == 500
    assert await shown(store, wallet) == Balance(5_000, 0, 5_000)
    assert {state for _, state in await leases_of(store, wallet)} == {"released"}, "none, or one was kept"
    for one in served:
        await ledger.settle(settlement_of(one, 10))
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(5_000, 5_000, 0)
    await books_balance(store)


async def test_a_hold_that_needs_it_gets_the_lease(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    one = await _held(ledger, wallet, 30)
    large = await _held(ledger, wallet, RICH - 30)
    assert not await leased(store, wallet)
    assert await rows_of(store, "SELECT state, lease FROM hold WHERE id = :id", id=one) == [("held", None)]
    for call, amount in ((one, 30), (large, 0)):
        assert (await ledger.settle(settlement_of(call, amount))).charged == amount
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(RICH, 30, 0)
    await books_balance(store)


async def test_what_is_kept_in_a_lease_makes_no_balance_low(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)

    async def look(below: int) -> list[str]:
        await store.write(lambda conn: alerts.watch(conn, wallet, below))
        found = await store.write(lambda conn: alerts.look(conn, below))
        return [one.kind for one in found if one.details["below"] == below]

    assert (await balance_of(store, wallet)).available < RICH - 1
    assert await look(RICH - 1) == []
    assert await look(RICH + 1) == ["balance.low"]
    await ledger.close()


async def test_a_transfer_that_needs_it_gets_the_lease(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    out = Transfer(id=new_id(), kind="adjust", wallet=wallet, amount=RICH, at=1)
    assert (await ledger.transfer(out)).available == 0
    with pytest.raises(InsufficientFunds):
        await ledger.hold(hold_of(wallet, 1))
    await ledger.close()


async def test_calls_that_others_leave_no_credits_for_are_paid_from_the_lease(store: Store) -> None:
    """Another process spends all that is left: what was promised here is still there."""
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    calls = [await _held(ledger, wallet, 20) for _ in range(3)]
    rest = (await balance_of(store, wallet)).available
    await store.ledger.transfer(Transfer(id=new_id(), kind="adjust", wallet=wallet, amount=rest, at=1))
    for call in calls:
        settled = await ledger.settle(settlement_of(call, 20))
        assert (settled.charged, settled.absorbed) == (20, 0)
    await ledger.close()
    assert (await balance_of(store, wallet)).debited == rest + 60
    await books_balance(store)


async def test_a_lease_that_was_swept_leaves_the_call_what_the_wallet_affords(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    one, two = await _held(ledger, wallet, 20), await _held(ledger, wallet, 20)
    (lease,) = await rows_of(
        store, "SELECT id FROM hold WHERE wallet = :wallet AND state = 'held'", wallet=wallet
    )
    await store.ledger.lapse((lease[0],), (), 5)
    assert (await ledger.settle(settlement_of(one, 20))).charged == 20
    rest = (await balance_of(store, wallet)).available
    await store.ledger.transfer(Transfer(id=new_id(), kind="adjust", wallet=wallet, amount=rest, at=1))
    settled = await ledger.settle(settlement_of(two, 20))
    assert (settled.charged, settled.absorbed) == (0, 20)
    await ledger.close()
    await books_balance(store)


async def test_calls_with_terms_of_their_own_have_their_own_holds(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    budget = await ledger.budget(new_id(), "", 500, 1)
    request = hold_of(wallet, 20, budget=budget)
    await ledger.hold(request)
    assert await rows_of(store, "SELECT amount FROM hold WHERE id = :id", id=request.id) == [(20,)]
    await ledger.settle(settlement_of(request.id, 20))
    await ledger.close()
    await books_balance(store)


async def test_calls_that_take_long_get_holds_of_their_own_and_idle_leases_end(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    at = 10_000
    slow = hold_of(wallet, 40, created_at=at)
    await ledger.hold(slow)

    async def on_its_own() -> bool:
        nonlocal at
        at += 1
        quick = hold_of(wallet, 1, created_at=at)
        await ledger.hold(quick)
        await ledger.settle(settlement_of(quick.id, None))
        return await rows_of(store, "SELECT state FROM hold WHERE id = :id", id=slow.id) == [("held",)]

    await until(on_its_own)
    assert (await shown(store, wallet)).held == 40

    async def given_back() -> bool:
        return not await leased(store, wallet)

    await until(given_back)
    assert (await balance_of(store, wallet)).held == 40
    assert (await ledger.settle(settlement_of(slow.id, 4))).charged == 4
    await ledger.close()
    await books_balance(store)


async def test_nothing_is_drawn_where_the_database_is_in_trouble(store: Store) -> None:
    class Slow:
        """The ledger of a store that says it is not prompt."""

        prompt = False

        def __getattr__(self, name: str) -> Any:
            return getattr(store.ledger, name)

    wallet = await wallet_of(store, RICH)
    ledger = Leases(Slow())  # type: ignore[arg-type] # it has the rest by delegation
    for _ in range(3 * HOT_HOLDS):
        await ledger.settle(settlement_of(await _held(ledger, wallet, 10), 1))
    assert await leases_of(store, wallet) == []
    await ledger.close()


async def test_a_caller_that_leaves_is_settled_all_the_same(store: Store) -> None:
    ledger, wallet = Leases(store.ledger), await wallet_of(store, RICH)
    await busy(store, ledger, wallet)
    call = await _held(ledger, wallet, 20)
    leaving = asyncio.create_task(ledger.settle(settlement_of(call, 7)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(RICH, 7, 0)
    await books_balance(store)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_the_leases_of_the_dead_are_released(fresh: Any, engine: str) -> None:
    where = fresh(engine)
    dead = open_store(where)
    await dead.open()
    ledger, wallet = Leases(dead.ledger), await wallet_of(dead, RICH)
    await busy(dead, ledger, wallet)
    await _held(ledger, wallet, 20)
    paid = await _held(ledger, wallet, 20)
    await ledger.settle(settlement_of(paid, 5))
    await dead.close()  # without giving the lease back, as a process that was killed
    after = open_store(where)
    await after.open()
    await after.recover(0)
    assert await balance_of(after, wallet) == Balance(RICH, 5, 0)
    await books_balance(after)
    await after.close()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), granted=st.integers(50, 3_000), steps=st.integers(5, 80))
def test_any_sequence_keeps_the_books(
    tmp_path_factory: pytest.TempPathFactory, seed: int, granted: int, steps: int
) -> None:
    """Whatever is held, settled, taken out and given back, in whatever order: the database's books and ours agree."""
    asyncio.run(_play(str(tmp_path_factory.mktemp("leases")), random.Random(seed), granted, steps))


async def _play(folder: str, dice: random.Random, granted: int, steps: int) -> None:
    store = open_store(Settings(data=folder))
    await store.open()
    ledger, wallet = Leases(store.ledger, hot=1), await wallet_of(store, granted)
    left, held, spent = granted, dict[str, int](), 0
    for _ in range(steps):
        what = dice.random()
        if what < 0.5 or not held:
            amount = dice.randint(0, max(1, granted // 30))
            request = hold_of(wallet, amount)
            try:
                await ledger.hold(request)
            except InsufficientFunds:
                assert amount > left, "refused although it was afforded"
                continue
            assert amount <= left, "held more than there was"
            held[request.id], left = amount, left - amount
        elif what < 0.9:
            call = dice.choice(list(held))
            amount = held.pop(call)
            used = dice.choice([None, 0, amount, dice.randint(0, amount + 3)])
            settled = await ledger.settle(settlement_of(call, used))
            assert settled.charged + settled.absorbed == (used or 0)
            assert settled.charged == (used or 0) or (used or 0) > left + amount
            left, spent = left + amount - settled.charged, spent + settled.charged
        elif what < 0.95:
            amount = dice.randint(1, max(1, granted // 10))
            out = Transfer(id=new_id(), kind="adjust", wallet=wallet, amount=amount, at=1)
            try:
                await ledger.transfer(out)
            except InsufficientFunds:
                assert amount > left
                continue
            left, spent = left - amount, spent + amount
        else:
            with pytest.raises(IllegalOperation):
                await ledger.settle(settlement_of(new_id(), 1))
    for call in held:
        await ledger.settle(settlement_of(call, None))
    await ledger.close()
    assert await balance_of(store, wallet) == Balance(granted, spent, 0)
    await books_balance(store)
    await store.close()
