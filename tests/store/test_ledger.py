"""What the ledger promises, on both engines: every method, re-runs, races, who pays beyond the hold."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.support.ledger import (
    attempt_of,
    balance_of,
    books_balance,
    call_of,
    held_and_settled,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.core.billing.money import AMOUNT_MAX
from tollway.store import calls
from tollway.store.base import (
    Balance,
    IllegalOperation,
    InsufficientFunds,
    Settled,
    Settlement,
    Store,
    Transfer,
)


async def test_a_hold_reserves_and_a_settlement_charges_what_was_used(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 300)
    assert await store.ledger.hold(request) == Balance(1000, 0, 300)
    settled = await store.ledger.settle(settlement_of(request.id, 120, charged=7, absorbed=9))
    assert settled == Settled(first=True, charged=120, absorbed=0, balance=Balance(1000, 120, 0))
    entries = await rows_of(store, "SELECT id, kind, amount FROM entry WHERE debit = :w", w=wallet)
    assert entries == [(f"s:{request.id}", "settle", 120)]
    calls = await rows_of(
        store, "SELECT charged, absorbed, stream, flags, usage FROM call WHERE id = :i", i=request.id
    )
    assert calls == [(120, 0, 1, "[]", '{"output":120}')]
    await books_balance(store)


async def test_a_release_gives_all_back_and_still_records_the_call(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    hold_id, settled = await held_and_settled(store, wallet, 300, None)
    assert settled == Settled(True, 0, 0, Balance(1000, 0, 0))
    assert await rows_of(store, "SELECT state, settled, reason FROM hold WHERE id = :i", i=hold_id) == [
        ("released", None, "done")
    ]
    assert len(await rows_of(store, "SELECT 1 FROM call WHERE id = :i", i=hold_id)) == 1
    await books_balance(store)


async def test_a_settlement_of_nothing_is_settled_without_an_entry(store: Store) -> None:
    wallet = await wallet_of(store, 10)
    hold_id, settled = await held_and_settled(store, wallet, 0, 0)
    assert settled.charged == 0
    assert await rows_of(store, "SELECT 1 FROM entry WHERE hold_id = :i", i=hold_id) == []
    await books_balance(store)


async def test_a_hold_beyond_the_wallet_is_refused_with_its_balance(store: Store) -> None:
    wallet = await wallet_of(store, 100)
    with pytest.raises(InsufficientFunds) as refused:
        await store.ledger.hold(hold_of(wallet, 101))
    assert (refused.value.kind, refused.value.account, refused.value.balance) == (
        "wallet",
        wallet,
        Balance(100, 0, 0),
    )
    assert (await balance_of(store, wallet)).held == 0


async def test_a_hold_beyond_the_budget_is_refused_and_touches_neither_account(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    budget = await store.ledger.budget(new_id(), "", 100, 1)
    with pytest.raises(InsufficientFunds) as refused:
        await store.ledger.hold(hold_of(wallet, 101, budget=budget))
    assert (refused.value.kind, refused.value.account) == ("budget", budget)
    assert refused.value.balance.available == 100
    assert (await balance_of(store, wallet)).held == 0


async def test_a_budget_counts_what_its_key_spends(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    budget = await store.ledger.budget(new_id(), "2026-01", 100, 1)
    request = hold_of(wallet, 80, budget=budget)
    await store.ledger.hold(request)
    assert (await balance_of(store, budget)).available == 20
    await store.ledger.settle(settlement_of(request.id, 30))
    assert (await balance_of(store, budget)).available == 70
    assert await rows_of(store, "SELECT id, credit FROM entry WHERE debit = :b", b=budget) == [
        (f"b:{request.id}", 1)
    ]
    await books_balance(store)


async def test_a_budget_keeps_its_account_and_follows_its_limit(store: Store, settings: Any) -> None:
    key = new_id()
    wallet = await wallet_of(store, 1000)
    budget = await store.ledger.budget(key, "", 100, 1)
    await store.ledger.hold(hold_of(wallet, 60, budget=budget))
    for limit, available in ((200, 140), (100, 40), (50, 0), (0, 0), (100, 40)):
        assert await store.ledger.budget(key, "", limit, 1) == budget
        assert (await balance_of(store, budget)).available == available, limit
    assert await store.ledger.budget(key, "2026-02", 100, 1) != budget
    await books_balance(store)


@pytest.mark.parametrize("amount", [-1, 1.5, "5", True, AMOUNT_MAX + 1, 2**63 - 1, 2**70, None])
async def test_an_impossible_amount_is_refused_before_the_database(store: Store, amount: Any) -> None:
    wallet = await wallet_of(store, 100)
    if amount is not None:
        with pytest.raises(IllegalOperation):
            await store.ledger.hold(hold_of(wallet, amount))
        with pytest.raises(IllegalOperation):
            await store.ledger.settle(settlement_of(new_id(), amount))
    with pytest.raises(IllegalOperation):
        await store.ledger.transfer(Transfer(id=new_id(), kind="grant", wallet=wallet, amount=amount, at=1))


async def test_the_same_hold_twice_reserves_once(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 300)
    assert await store.ledger.hold(request) == await store.ledger.hold(request) == Balance(1000, 0, 300)
    with pytest.raises(IllegalOperation, match="other terms"):
        await store.ledger.hold(hold_of(wallet, 200, id=request.id))
    await store.ledger.settle(settlement_of(request.id, 1))
    with pytest.raises(IllegalOperation, match="already settled"):
        await store.ledger.hold(request)
    await books_balance(store)


async def test_the_same_settlement_twice_charges_once_and_tells_what_it_did(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 300)
    await store.ledger.hold(request)
    settlement = settlement_of(request.id, 120)
    first, second = await asyncio.gather(store.ledger.settle(settlement), store.ledger.settle(settlement))
    assert sorted([first.first, second.first]) == [False, True]
    assert (first.charged, second.charged) == (120, 120)
    again = await store.ledger.settle(settlement_of(request.id, 200))
    assert (again.first, again.charged) == (False, 120)
    assert (await balance_of(store, wallet)).debited == 120
    await books_balance(store)


async def test_a_settlement_without_a_hold_is_refused(store: Store) -> None:
    with pytest.raises(IllegalOperation, match="no hold"):
        await store.ledger.settle(settlement_of(new_id(), 5))
    wallet = await wallet_of(store, 10)
    request = hold_of(wallet, 5)
    await store.ledger.hold(request)
    other = Settlement(hold_id=request.id, amount=1, reason="x", call=call_of(new_id()), attempts=())
    with pytest.raises(IllegalOperation, match="cannot close"):
        await store.ledger.settle(other)


@pytest.mark.parametrize("budgeted", [False, True])
async def test_what_exceeds_the_hold_is_charged_if_it_is_affordable(store: Store, budgeted: bool) -> None:
    wallet = await wallet_of(store, 1000)
    budget = await store.ledger.budget(new_id(), "", 500, 1) if budgeted else None
    request = hold_of(wallet, 100, budget=budget)
    await store.ledger.hold(request)
    settled = await store.ledger.settle(settlement_of(request.id, 130))
    assert settled == Settled(True, 130, 0, Balance(1000, 130, 0))
    kinds = await rows_of(store, "SELECT kind, amount FROM entry WHERE debit = :w ORDER BY seq", w=wallet)
    assert kinds == [("settle", 100), ("overage", 30)]
    if budget is not None:
        assert (await balance_of(store, budget)).debited == 130
    assert await rows_of(store, "SELECT charged, absorbed FROM call WHERE id = :i", i=request.id) == [
        (130, 0)
    ]
    await books_balance(store)


@pytest.mark.parametrize(("granted", "limit"), [(110, None), (1000, 110)])
async def test_what_nobody_can_pay_is_absorbed(store: Store, granted: int, limit: int | None) -> None:
    wallet = await wallet_of(store, granted)
    budget = None if limit is None else await store.ledger.budget(new_id(), "", limit, 1)
    request = hold_of(wallet, 100, budget=budget)
    await store.ledger.hold(request)
    settled = await store.ledger.settle(settlement_of(request.id, 130))
    assert settled == Settled(True, 100, 30, Balance(granted, 100, 0))
    again = await store.ledger.settle(settlement_of(request.id, 130))
    assert again == Settled(False, 100, 30, Balance(granted, 100, 0))
    assert await rows_of(store, "SELECT kind, amount FROM entry WHERE id = :i", i=f"a:{request.id}") == [
        ("absorb", 30)
    ]
    assert await rows_of(store, "SELECT charged, absorbed FROM call WHERE id = :i", i=request.id) == [
        (100, 30)
    ]
    await books_balance(store)


@pytest.mark.parametrize(
    ("amount", "parts", "charged"),
    [
        (None, [None, None], 0),
        (60, [60, None], 60),
        (130, [100, 30], 130),
        (150, [100, 50], 150),
        (170, [100, 50], 170),
    ],
)
async def test_an_extended_hold_closes_with_its_extensions(
    store: Store, amount: int | None, parts: list[int | None], charged: int
) -> None:
    wallet = await wallet_of(store, 1000)
    head = hold_of(wallet, 100)
    await store.ledger.hold(head)
    more = hold_of(wallet, 50, extends=head.id)
    assert (await store.ledger.hold(more)).held == 150
    with pytest.raises(IllegalOperation, match="closes with"):
        await store.ledger.settle(settlement_of(more.id, 5))
    settled = await store.ledger.settle(settlement_of(head.id, amount))
    assert settled == Settled(True, charged, 0, Balance(1000, charged, 0))
    found = await rows_of(
        store,
        "SELECT settled FROM hold WHERE id = :h OR extends = :h ORDER BY created_at, extends IS NOT NULL",
        h=head.id,
    )
    assert [row[0] for row in found] == parts
    await books_balance(store)


async def test_an_extension_beyond_the_balance_is_refused_and_the_hold_stands(store: Store) -> None:
    wallet = await wallet_of(store, 120)
    head = hold_of(wallet, 100)
    await store.ledger.hold(head)
    with pytest.raises(InsufficientFunds):
        await store.ledger.hold(hold_of(wallet, 21, extends=head.id))
    with pytest.raises(IllegalOperation, match="only an open hold"):
        await store.ledger.hold(hold_of(await wallet_of(store, 50), 5, extends=head.id))
    assert (await store.ledger.settle(settlement_of(head.id, 100))).charged == 100
    with pytest.raises(IllegalOperation, match="only an open hold"):
        await store.ledger.hold(hold_of(wallet, 5, extends=head.id))
    await books_balance(store)


async def test_a_settlement_after_the_sweep_is_late_and_absorbed(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 100)
    await store.ledger.hold(request)

    def sweep(conn: Any) -> None:
        statement = (
            "UPDATE hold SET state='released', reason='owner_dead', closed_at=5 WHERE id='" + request.id + "'"
        )
        conn.exec_driver_sql(statement)

    await store.write(sweep)
    for first_run in (True, False):
        settled = await store.ledger.settle(settlement_of(request.id, 70, flags=("estimated",)))
        assert settled == Settled(False, 0, 70, Balance(1000, 0, 0)), first_run
    rows = await rows_of(store, "SELECT flags, charged, absorbed FROM call WHERE id = :i", i=request.id)
    assert rows == [('["estimated","late"]', 0, 70)]
    await books_balance(store)


@pytest.mark.parametrize("kind", ["grant", "topup"])
async def test_a_transfer_is_applied_once(store: Store, kind: str) -> None:
    wallet = await wallet_of(store, 0)
    transfer = Transfer(id=new_id(), kind=kind, wallet=wallet, amount=500, at=1, note="hello")
    found = await asyncio.gather(*(store.ledger.transfer(transfer) for _ in range(5)))
    assert set(found) == {Balance(500, 0, 0)}
    with pytest.raises(IllegalOperation, match="other terms"):
        await store.ledger.transfer(Transfer(id=transfer.id, kind=kind, wallet=wallet, amount=501, at=1))
    await books_balance(store)


@pytest.mark.parametrize("kind", ["expire", "adjust"])
async def test_a_transfer_out_of_a_wallet_cannot_overdraw_it(store: Store, kind: str) -> None:
    wallet = await wallet_of(store, 500)
    await store.ledger.hold(hold_of(wallet, 400))
    out = Transfer(id=new_id(), kind=kind, wallet=wallet, amount=100, at=1)
    assert (await store.ledger.transfer(out)).available == 0
    with pytest.raises(InsufficientFunds):
        await store.ledger.transfer(Transfer(id=new_id(), kind=kind, wallet=wallet, amount=1, at=1))
    await books_balance(store)


async def test_refunds_stay_within_what_was_charged(store: Store) -> None:
    wallet = await wallet_of(store, 500)
    hold_id, _ = await held_and_settled(store, wallet, 100, 60)

    async def refund(name: str, amount: int, hold: str | None) -> Balance:
        request = Transfer(
            id=f"refund:{hold_id}:{name}", kind="refund", wallet=wallet, amount=amount, at=1, hold_id=hold
        )
        return await store.ledger.transfer(request)

    assert await refund("1", 40, hold_id) == await refund("1", 40, hold_id) == Balance(540, 60, 0)
    for amount, hold in ((21, hold_id), (5, None), (5, "no such hold")):
        with pytest.raises(IllegalOperation):
            await refund("2", amount, hold)
    assert (await refund("3", 20, hold_id)).available == 500
    open_hold = hold_of(wallet, 10)
    await store.ledger.hold(open_hold)
    with pytest.raises(IllegalOperation):
        await refund("4", 1, open_hold.id)
    await books_balance(store)


async def test_a_transfer_of_unknown_kind_or_wallet_is_refused(store: Store) -> None:
    wallet = await wallet_of(store, 500)
    budget = await store.ledger.budget(new_id(), "", 5, 1)
    for kind, account in (
        ("settle", wallet),
        ("gift", wallet),
        ("grant", 2),
        ("grant", budget),
        ("topup", 10**9),
    ):
        with pytest.raises(IllegalOperation):
            await store.ledger.transfer(Transfer(id=new_id(), kind=kind, wallet=account, amount=5, at=1))
    await books_balance(store)


@pytest.mark.parametrize("through_budget", [False, True])
async def test_of_64_callers_exactly_as_many_are_served_as_can_pay(
    store: Store, through_budget: bool
) -> None:
    wallet = await wallet_of(store, 10**6 if through_budget else 1000)
    budget = await store.ledger.budget(new_id(), "", 1000, 1) if through_budget else None

    async def caller() -> list[str]:
        served = []
        for _ in range(3):
            request = hold_of(wallet, 10, budget=budget)
            try:
                await store.ledger.hold(request)
            except InsufficientFunds:
                continue
            served.append(request.id)
        return served

    served = [one for got in await asyncio.gather(*(caller() for _ in range(64))) for one in got]
    assert len(served) == 100
    await asyncio.gather(*(store.ledger.settle(settlement_of(one, 4)) for one in served))
    assert (await balance_of(store, budget or wallet)).debited == 400
    await books_balance(store)


async def test_one_callers_refusal_is_nobody_elses(store: Store) -> None:
    rich, poor = await wallet_of(store, 1000), await wallet_of(store, 0)
    requests = [hold_of(rich if n % 2 else poor, 10) for n in range(40)]
    outcomes = await asyncio.gather(*map(store.ledger.hold, requests), return_exceptions=True)
    assert [isinstance(one, Balance) for one in outcomes] == [bool(n % 2) for n in range(40)]
    assert all(isinstance(one, InsufficientFunds) for one in outcomes[::2])
    await books_balance(store)


async def test_a_caller_cancelled_while_waiting_leaves_a_knowable_effect(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    requests = [hold_of(wallet, 10) for _ in range(20)]
    tasks = [asyncio.create_task(store.ledger.hold(request)) for request in requests]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    settled = await asyncio.gather(*(store.ledger.settle(settlement_of(one.id, None)) for one in requests))
    assert all(one == Settled(True, 0, 0, one.balance) for one in settled)
    assert await balance_of(store, wallet) == Balance(1000, 0, 0)
    await books_balance(store)


async def test_a_settlement_whose_caller_was_cancelled_is_done_and_told_again(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    task = asyncio.create_task(store.ledger.settle(settlement_of(request.id, 7)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await store.ledger.settle(settlement_of(request.id, 7))).charged == 7
    assert (await balance_of(store, wallet)).debited == 7


@pytest.mark.parametrize("words", ["nul\0byte", "lone \ud800 surrogate", "naïve ☃"])
async def test_characters_from_outside_do_not_stop_a_settlement(store: Store, words: str) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    assert (
        await store.ledger.settle(settlement_of(request.id, 7, user_agent=words, model=words))
    ).charged == 7
    await books_balance(store)


ATTEMPTS = {
    "none": ((), 0),
    "one that went well": (({},), 0),
    "one without a first byte": (({"first_byte_ms": None, "cost": 3},), 0),
    "one that failed": (({"status": 503, "error": "status", "cost": None},), 1),
    "one that said less": (({"dropped": ("seed: not known there",)},), 1),
    "one cut after it began": (({"error": "reset"},), 1),
    "one on another channel than the call's": (({"channel_id": "other"},), 1),
    "one of another model": (({"upstream_model": "other"},), 1),
    "one that cost something else": (({"cost": 4},), 1),
    "one that is not the first": (({"n": 2},), 1),
    "two": (({"status": 503, "error": "status"}, {"n": 2}), 2),
    "three": (({"n": 1}, {"n": 2}, {"n": 3}), 3),
}
"""What is said of the attempts of a call, and how many rows of their own they have."""


@pytest.mark.parametrize("amount", [5, 50], ids=["plain", "beyond its hold"])
@pytest.mark.parametrize(("said", "rows"), ATTEMPTS.values(), ids=ATTEMPTS)
async def test_attempts_are_remembered_as_they_were(
    store: Store, said: tuple[dict[str, Any], ...], rows: int, amount: int
) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    attempts = tuple(attempt_of(request.id, **facts) for facts in said)
    call = call_of(request.id, usage={"output": amount})
    await store.ledger.settle(
        Settlement(hold_id=request.id, amount=amount, reason="done", call=call, attempts=attempts)
    )
    assert await store.read(partial(calls.attempts, call_id=request.id)) == list(attempts)
    count = await rows_of(store, "SELECT count(*) FROM attempt WHERE call_id = :i", i=request.id)
    assert count == [(rows,)]
