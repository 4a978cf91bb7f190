"""Grants that expire, codes, caps and low balances on both databases."""

from __future__ import annotations

import asyncio
import random
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

from tollway.config import Settings
from tollway.store import alerts, careful, codes, grants
from tollway.store.base import Store, Transfer
from tollway.store.codes import Code, CodeRefused
from tollway.store.factory import open_store


async def granted(store: Store, wallet: int, amount: int, expires_at: int | None, at: int = 1) -> str:
    transfer = Transfer(id=f"grant:{new_id()}", kind="grant", wallet=wallet, amount=amount, at=at)

    def work(conn: Any) -> None:
        careful.transfer(conn, transfer)
        if expires_at is not None:
            grants.add(conn, transfer=transfer, expires_at=expires_at)

    await store.write(work)
    return transfer.id


async def spend(store: Store, wallet: int, amount: int) -> str:
    request = hold_of(wallet, amount)
    await store.ledger.hold(request)
    await store.ledger.settle(settlement_of(request.id, amount))
    return request.id


async def expired(store: Store, entry: str, now: int) -> int:
    return await store.write(partial(grants.expire, entry_id=entry, now=now))


async def left(store: Store, wallet: int) -> list[tuple[int, int]]:
    return [(lot.left, lot.expires_at) for lot in await store.read(partial(grants.of_wallet, wallet=wallet))]


async def test_what_is_left_of_a_grant_goes_when_its_time_is_over(store: Store) -> None:
    wallet = await wallet_of(store, 100)
    entry = await granted(store, wallet, 50, expires_at=500)
    await spend(store, wallet, 20)
    assert await expired(store, entry, 499) == 0
    assert await expired(store, entry, 500) == 30
    assert (await balance_of(store, wallet)).available == 100
    assert await expired(store, entry, 501) == 0
    assert await rows_of(store, "SELECT amount, kind FROM entry WHERE id = :id", id=f"expire:{entry}:0") == [
        (30, "expire")
    ]
    await books_balance(store)


async def test_the_grant_that_ends_first_is_spent_first(store: Store) -> None:
    wallet = await wallet_of(store, 0)
    late = await granted(store, wallet, 40, expires_at=900)
    soon = await granted(store, wallet, 40, expires_at=500)
    await spend(store, wallet, 50)
    assert await expired(store, soon, 500) == 0
    assert await expired(store, late, 900) == 30
    assert (await balance_of(store, wallet)).available == 0
    await books_balance(store)


async def test_spending_before_a_grant_is_not_put_down_to_it(store: Store) -> None:
    wallet = await wallet_of(store, 100)
    await spend(store, wallet, 60)
    entry = await granted(store, wallet, 50, expires_at=500)
    assert await expired(store, entry, 500) == 50
    assert (await balance_of(store, wallet)).available == 40


async def test_what_was_refunded_counts_as_not_spent(store: Store) -> None:
    wallet = await wallet_of(store, 0)
    entry = await granted(store, wallet, 50, expires_at=500)
    call = await spend(store, wallet, 20)
    refund = Transfer(id=new_id(), kind="refund", wallet=wallet, amount=20, at=9, hold_id=call)
    await store.ledger.transfer(refund)
    assert await expired(store, entry, 500) == 50
    assert (await balance_of(store, wallet)).available == 0


async def test_calls_under_way_keep_what_they_hold_and_the_rest_goes_when_they_end(store: Store) -> None:
    wallet = await wallet_of(store, 0)
    entry = await granted(store, wallet, 50, expires_at=500)
    request = hold_of(wallet, 30)
    await store.ledger.hold(request)
    assert await expired(store, entry, 500) == 20
    assert await store.read(partial(grants.due, now=500, limit=9)) == [entry]
    await store.ledger.settle(settlement_of(request.id, 10))
    assert await expired(store, entry, 501) == 20
    assert (await balance_of(store, wallet)).available == 0
    assert entry not in await store.read(partial(grants.due, now=999, limit=99))
    await books_balance(store)


@pytest.mark.parametrize("seed", range(3))
async def test_lots_never_lose_or_make_credits(tmp_path: Any, seed: int) -> None:
    """Grants, spending, refunds and expiry in any order: what remains is what was given less what was spent."""
    dice = random.Random(seed)
    store = open_store(Settings(data=str(tmp_path)))
    await store.open()
    try:
        wallet = await wallet_of(store, 30)
        given_, spent, taken, now = 30, 0, 0, 1
        entries: list[tuple[str, int, int]] = []
        for _ in range(120):
            now += dice.randint(1, 20)
            what = dice.random()
            if what < 0.3:
                amount, ends = dice.randint(1, 50), now + dice.randint(1, 200)
                entries.append((await granted(store, wallet, amount, ends, at=now), amount, ends))
                given_ += amount
            elif what < 0.8:
                amount = dice.randint(1, 25)
                if (await balance_of(store, wallet)).available >= amount:
                    await spend(store, wallet, amount)
                    spent += amount
            else:
                for entry in await store.read(partial(grants.due, now=now, limit=9)):
                    taken += await expired(store, entry, now)
            balance = await balance_of(store, wallet)
            assert balance.available == given_ - spent - taken >= 0
            lots = await store.read(partial(grants.of_wallet, wallet=wallet))
            assert all(lot.left >= 0 for lot in lots)
        for entry in await store.read(partial(grants.due, now=10**9, limit=999)):
            taken += await expired(store, entry, 10**9)
        # All that expires is gone: what is left was given for ever, and 30 is all of that.
        assert (await balance_of(store, wallet)).available == given_ - spent - taken <= 30
        await books_balance(store)
    finally:
        await store.close()


def code_of(name: str, **facts: Any) -> Code:
    values: dict[str, Any] = {
        "digest": name, "batch": "bat", "hint": "ABCD", "amount": 40, "credit_days": None, "note": None,
        "created_at": 1, "expires_at": None,
    }  # fmt: skip
    return Code(**{**values, **facts})


def redeeming(name: str, wallet: int, account: str = "acc", now: int = 100) -> Any:
    return partial(codes.redeem, digest=name, account_id=account, wallet=wallet, now=now)


async def test_a_code_is_redeemed_once_by_64_at_the_same_time(store: Store) -> None:
    name, wallets = new_id(), [await wallet_of(store, 0) for _ in range(4)]
    await store.write(partial(codes.add, codes=[code_of(name)]))
    found = await asyncio.gather(
        *(store.write(redeeming(name, wallets[n % 4], f"acc{n % 4}")) for n in range(64)),
        return_exceptions=True,
    )
    won = [one for one in found if not isinstance(one, BaseException)]
    assert len(won) == 1
    assert all(isinstance(one, CodeRefused) for one in found if one not in won)
    # Those of the account that won are told that it is theirs, the others nothing.
    reasons = [one.why for one in found if isinstance(one, CodeRefused)]
    assert (reasons.count("mine"), reasons.count("unusable")) == (15, 48)
    assert sum([(await balance_of(store, wallet)).available for wallet in wallets]) == 40
    await books_balance(store)


@pytest.mark.postgres
async def test_a_code_is_redeemed_once_by_several_processes(fresh: Any) -> None:
    settings = fresh("postgresql")
    stores = [open_store(settings) for _ in range(3)]
    for one in stores:
        await one.open()
    try:
        wallet, name = await wallet_of(stores[0], 0), new_id()
        await stores[0].write(partial(codes.add, codes=[code_of(name)]))
        found = await asyncio.gather(
            *(stores[n % 3].write(redeeming(name, wallet)) for n in range(64)), return_exceptions=True
        )
        assert sum(not isinstance(one, BaseException) for one in found) == 1, found
        assert all(isinstance(one, codes.Redeemed | CodeRefused) for one in found), found
        assert (await balance_of(stores[0], wallet)).available == 40
    finally:
        for one in stores:
            await one.close()


async def test_codes_that_are_no_good_are_refused_alike(store: Store) -> None:
    wallet, names = await wallet_of(store, 0), [new_id() for _ in range(3)]
    batch = new_id()
    await store.write(
        partial(
            codes.add,
            codes=[
                code_of(names[0], expires_at=100),
                code_of(names[1], batch=batch),
                code_of(names[2], credit_days=2),
            ],
        )
    )
    assert await store.write(partial(codes.void, batch=batch, now=50)) == 1
    for name in (names[0], names[1], "never-made"):
        with pytest.raises(CodeRefused, match="unusable"):
            await store.write(redeeming(name, wallet))
    assert (await balance_of(store, wallet)).available == 0
    found = await store.write(redeeming(names[2], wallet))
    assert found.expires_at == 100 + 2 * 86_400_000
    assert await left(store, wallet) == [(40, found.expires_at)]
    made = {one.batch: one for one in await store.read(codes.batches)}
    assert (made[batch].codes, made[batch].redeemed, made[batch].voided) == (1, 0, 1)


async def test_a_low_balance_is_told_once_until_it_has_been_good_again(store: Store) -> None:
    wallet = await wallet_of(store, 100)

    async def look(now: int) -> list[str]:
        found = await store.write(partial(alerts.look, now=now))
        return [one.kind for one in found if one.details["below"] == 77]

    await store.write(partial(alerts.watch, wallet=wallet, below=77))
    assert await look(1) == []
    await spend(store, wallet, 50)
    assert await look(2) == ["balance.low"]
    assert await look(3) == []
    await granted(store, wallet, 100, None)
    assert await look(4) == ["balance.restored"]
    assert await look(5) == []
    waiting = [
        one for one in await store.read(partial(alerts.unsent, limit=99)) if one.details["below"] == 77
    ]
    assert [(one.kind, one.at, one.details["available"]) for one in waiting] == [
        ("balance.low", 2, 50),
        ("balance.restored", 4, 150),
    ]
    assert await store.write(partial(alerts.sent, event_id=waiting[0].id, now=6))
    assert not await store.write(partial(alerts.sent, event_id=waiting[0].id, now=7))
    assert waiting[0].id not in [one.id for one in await store.read(partial(alerts.unsent, limit=99))]
    await store.write(partial(alerts.watch, wallet=wallet, below=None))
    assert await store.read(partial(alerts.watched, wallet=wallet)) is None


async def test_several_processes_tell_of_a_low_balance_once(store: Store) -> None:
    wallet = await wallet_of(store, 10)
    await store.write(partial(alerts.watch, wallet=wallet, below=78))
    found = await asyncio.gather(*(store.write(partial(alerts.look, now=n)) for n in range(1, 6)))
    assert len([one for events in found for one in events if one.details["below"] == 78]) == 1
