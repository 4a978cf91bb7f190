"""The ledger's faults by their numbers, on both engines; docs/promises.md says where the other numbers are tested.

Every test ends with the whole proof: whatever went wrong, the books balance.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import insert, select
from tests.store.conftest import ENGINES, fresh  # noqa: F401 - a fixture
from tests.support.ledger import (
    balance_of,
    books_balance,
    held_and_settled,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)
from tests.support.patient import patient_for

from tollway.config import Settings
from tollway.store import schema
from tollway.store.base import Balance, IllegalOperation, InsufficientFunds, Store, Transfer
from tollway.store.factory import open_store

HOUR = 3_600_000


@pytest.fixture(params=ENGINES)
async def alone(
    request: pytest.FixtureRequest,
    fresh: Callable[[str], Settings],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Store]:
    """A store nobody else uses: what is in it is what a test put there."""
    patient_for(monkeypatch)
    found = open_store(fresh(request.param))
    await found.open()
    yield found
    await found.close()


async def test_f01_of_64_clients_with_50_calls_each_exactly_as_many_are_served_as_can_pay(
    alone: Store,
) -> None:
    wallet = await wallet_of(alone, 1005)
    budget = await alone.ledger.budget(new_id(), "", 705, 1)
    served = 0

    async def client(n: int) -> None:
        nonlocal served
        for turn in range(50):
            request = hold_of(wallet, 10, budget=budget if n % 2 else None)
            try:
                await alone.ledger.hold(request)
            except InsufficientFunds:
                continue
            served += 1
            if (n + turn) % 3 == 0:
                await alone.ledger.settle(settlement_of(request.id, 10))

    await asyncio.gather(*map(client, range(64)))
    assert served == 100
    left = await balance_of(alone, wallet)
    assert (left.debited + left.held, left.available) == (1000, 5)
    assert (await balance_of(alone, budget)).available >= 5
    await books_balance(alone)


@pytest.mark.parametrize("turns", range(6))
async def test_f03_a_caller_cancelled_at_any_moment_leaves_no_hold_open(alone: Store, turns: int) -> None:
    wallet = await wallet_of(alone, 10**6)
    requests = [hold_of(wallet, 10) for _ in range(20)]

    async def call(n: int) -> None:
        await alone.ledger.hold(requests[n])
        await alone.ledger.settle(settlement_of(requests[n].id, 4))

    tasks = [asyncio.create_task(call(n)) for n in range(len(requests))]
    for _ in range(turns * 3):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Whoever cancels a call releases its hold: by its own id, whether or not it ever was.
    for request in requests:
        with contextlib.suppress(IllegalOperation):  # it never was
            await alone.ledger.settle(settlement_of(request.id, None))
    assert await rows_of(alone, "SELECT id FROM hold WHERE state = 'held'") == []
    assert (await balance_of(alone, wallet)).held == 0
    await books_balance(alone)


async def test_f07_what_is_enforced_is_what_is_entered_after_thousands_of_mixed_calls(alone: Store) -> None:
    dice = random.Random(7)
    wallets = [await wallet_of(alone, 5_000) for _ in range(4)]
    budgets = [await alone.ledger.budget(new_id(), "", 4_000, 1) for _ in range(3)]
    settled: list[tuple[str, int]] = []

    async def one(wallet: int, budget: int | None, held: int, used: int | None, refunded: int) -> None:
        request = hold_of(wallet, held, budget=budget)
        try:
            await alone.ledger.hold(request)
        except InsufficientFunds:
            return
        found = await alone.ledger.settle(settlement_of(request.id, used))
        settled.append((request.id, found.charged))
        if 0 < refunded <= min(found.charged, held):
            await alone.ledger.transfer(
                Transfer(id=new_id(), kind="refund", wallet=wallet, amount=refunded, at=1, hold_id=request.id)
            )

    for _ in range(40):
        await asyncio.gather(
            *(
                one(
                    dice.choice(wallets),
                    dice.choice([None, *budgets]),
                    dice.choice((0, 5, 20, 90)),
                    dice.choice((None, 0, 3, 20, 95)),
                    dice.choice((0, 0, 2)),
                )
                for _ in range(50)
            )
        )
    assert len(settled) > 500
    for account in (*wallets, *budgets):
        left = await balance_of(alone, account)
        assert left.held == 0
        assert left.available >= 0
    assert dict(await rows_of(alone, "SELECT id, charged FROM call")) == dict(settled)
    await books_balance(alone)


async def test_f11_a_refund_asked_for_by_two_at_once_is_made_once(alone: Store) -> None:
    wallet = await wallet_of(alone, 1000)
    call, _ = await held_and_settled(alone, wallet, 100, 80)
    same = Transfer(id=new_id(), kind="refund", wallet=wallet, amount=80, at=1, hold_id=call)
    await asyncio.gather(*(alone.ledger.transfer(same) for _ in range(8)))
    others = [
        Transfer(id=new_id(), kind="refund", wallet=wallet, amount=80, at=1, hold_id=call) for _ in range(8)
    ]
    found = await asyncio.gather(*map(alone.ledger.transfer, others), return_exceptions=True)
    assert all(isinstance(one, IllegalOperation) for one in found), found
    assert (await balance_of(alone, wallet)).available == 1000
    assert await rows_of(alone, "SELECT refunded FROM hold WHERE id = :i", i=call) == [(80,)]
    await books_balance(alone)


async def test_f14_a_call_keeps_the_price_it_was_held_with(alone: Store) -> None:
    wallet = await wallet_of(alone, 1000)
    request = hold_of(wallet, 100)
    await alone.ledger.hold(request)
    dearer = insert(schema.price_version).values(model_id="m", rates='{"output": 9000000}', created_at=2)
    await alone.write(lambda conn: conn.execute(dearer))
    assert (await alone.ledger.settle(settlement_of(request.id, 60))).charged == 60
    assert await rows_of(
        alone,
        "SELECT c.price_version = h.price_version FROM call c JOIN hold h ON h.id = c.id WHERE c.id = :i",
        i=request.id,
    ) in ([(1,)], [(True,)])
    await books_balance(alone)


async def test_f15_an_owner_that_was_paused_while_it_was_given_up_charges_nothing(alone: Store) -> None:
    wallet = await wallet_of(alone, 1000)
    request = hold_of(wallet, 100)
    await alone.ledger.hold(request)
    other = hold_of(wallet, 100)
    await alone.ledger.hold(other)
    await alone.write(
        lambda conn: conn.execute(
            schema.hold.update()
            .where(schema.hold.c.id == request.id)
            .values(state="released", reason="owner_dead", closed_at=HOUR)
        )
    )
    late = await alone.ledger.settle(settlement_of(request.id, 60))
    assert (late.charged, late.absorbed) == (0, 60)
    assert (await alone.ledger.settle(settlement_of(request.id, 60))).first is False
    assert (await alone.ledger.settle(settlement_of(other.id, 60))).charged == 60
    assert await balance_of(alone, wallet) == Balance(1000, 60, 0)
    await books_balance(alone)


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
async def test_f16_a_clock_that_jumps_loses_and_invents_nothing(alone: Store, shift: int) -> None:
    now = 1_800_000_000_000
    wallet = await wallet_of(alone, 1000)
    requests = [hold_of(wallet, 100, created_at=now, expires_at=now + 60_000) for _ in range(3)]
    for request in requests:
        await alone.ledger.hold(request)
    await alone.heartbeat(now)
    await alone.recover(now + shift)
    charged = 0
    for request in requests:
        found = await alone.ledger.settle(
            settlement_of(request.id, 60, created_at=now, finished_at=now + shift)
        )
        assert found.charged + found.absorbed == 60
        charged += found.charged
    assert await balance_of(alone, wallet) == Balance(1000, charged, 0)
    await books_balance(alone)


async def test_f18_an_extension_that_is_refused_leaves_the_call_what_it_holds(alone: Store) -> None:
    wallet = await wallet_of(alone, 100)
    request = hold_of(wallet, 60)
    await alone.ledger.hold(request)
    with pytest.raises(InsufficientFunds):
        await alone.ledger.hold(hold_of(wallet, 41, extends=request.id))
    assert await balance_of(alone, wallet) == Balance(100, 0, 60)
    await alone.ledger.hold(hold_of(wallet, 40, extends=request.id))
    settled = await alone.ledger.settle(settlement_of(request.id, 90))
    assert (settled.charged, settled.balance) == (90, Balance(100, 90, 0))
    await books_balance(alone)


async def test_f19_a_hold_is_settled_against_the_period_it_began_in_and_a_limit_lowered_since(
    alone: Store,
) -> None:
    wallet = await wallet_of(alone, 1000)
    owner = new_id()
    old = await alone.ledger.budget(owner, "2026-01", 100, 1)
    request = hold_of(wallet, 80, budget=old)
    await alone.ledger.hold(request)
    new = await alone.ledger.budget(owner, "2026-02", 100, 2)
    assert new != old
    fresh_one = hold_of(wallet, 100, budget=new)
    await alone.ledger.hold(fresh_one)
    assert (await alone.ledger.settle(settlement_of(request.id, 70))).charged == 70
    assert (await balance_of(alone, old)).debited == 70
    assert (await balance_of(alone, new)).debited == 0
    assert (await alone.ledger.settle(settlement_of(fresh_one.id, None))).charged == 0
    kinds = await alone.read(
        lambda conn: (
            conn.execute(
                select(schema.entry.c.kind)
                .where(schema.entry.c.hold_id == request.id)
                .order_by(schema.entry.c.kind)
            )
            .scalars()
            .all()
        )
    )
    assert list(kinds) == ["budget", "settle"]
    await books_balance(alone)
