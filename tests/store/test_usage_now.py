"""What was used is the same whether it was rolled up before or not, in any zone and by anything."""

from __future__ import annotations

import random
from functools import partial

import pytest
from msgspec.structs import replace
from tests.store.test_rollups import BEGIN, DAY, fill, put_calls, some_calls
from tests.support.ledger import held_and_settled, new_id, wallet_of

from tollway.store import marks
from tollway.store.base import Store, Transfer
from tollway.store.rollups.fill import add_refunds
from tollway.store.rollups.usage import usage
from tollway.store.usage_now import used

HOUR = 3_600_000
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin")
DAYS = 40
"""Over the change of European clocks at the end of March."""


def own_calls(count: int, seed: int) -> list[object]:
    """Calls of accounts nobody else has: on PostgreSQL the tests of a module share a database."""
    mark = new_id()
    return [
        replace(
            one,
            account_id=f"{one.account_id}{mark}",
            key_id=f"{one.key_id}{mark}",
            model=f"{one.model}{mark}",
        )
        for one in some_calls(count, DAYS, seed)
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_the_same_before_in_the_middle_of_and_after_rolling_up(store: Store, seed: int) -> None:
    dice = random.Random(seed)
    calls = own_calls(150, seed)
    await store.write(partial(put_calls, calls=calls))
    end = BEGIN + DAYS * DAY
    accounts = sorted({one.account_id for one in calls})
    questions = [
        {"by": by, "zone": zone, "only": only, "since": since, "until": until}
        for by in ((), ("day",), ("month", "model"), ("hour", "key", "channel"), ("account", "project"))
        for zone in ZONES
        for only in ({"account": accounts[0]}, {"account": accounts[1], "model": calls[0].model})
        for since, until in [sorted(dice.sample(range(BEGIN, end), 2)), (BEGIN, end)]
    ]

    async def answers() -> list[object]:
        return [await store.read(partial(used, **question)) for question in questions]

    await store.write(partial(marks.put, topic=marks.ROLLED, number=0))
    before = await answers()
    whole = sum(one.charged for one in before[1])
    assert whole == sum(one.charged for one in calls if one.account_id == accounts[0])
    for until in (BEGIN + DAYS * DAY // 3, end):
        await store.write(partial(fill, since=BEGIN, until=until))
        await store.write(partial(marks.put, topic=marks.ROLLED, number=until - until % 900_000))
        assert await answers() == before
    for question, answer in zip(questions, before, strict=True):
        rolled = {**question, **question["only"]}
        del rolled["only"]
        assert await store.read(partial(usage, **rolled)) == answer


async def test_refunds_are_in_as_soon_as_they_are_made_and_once(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    call, _ = await held_and_settled(store, wallet, 50, 20)
    owner = await store.read(
        lambda conn: conn.exec_driver_sql(f"SELECT owner FROM ledger_account WHERE id = {wallet}").scalar()
    )
    await store.write(
        lambda conn: conn.exec_driver_sql(f"UPDATE call SET account_id = '{owner}' WHERE id = '{call}'")
    )
    refund = Transfer(id=new_id(), kind="refund", wallet=wallet, amount=7, at=BEGIN + 5, hold_id=call)
    await store.ledger.transfer(refund)
    question = partial(used, since=BEGIN, until=BEGIN + DAY, by=("day",), only={"account": owner})

    async def refunded() -> list[tuple[int | None, int]]:
        return [(one.at, one.refunded) for one in await store.read(question) if one.refunded]

    await store.write(partial(marks.put, topic=marks.ROLLED, number=0))
    assert await refunded() == [(BEGIN, 7)]
    await store.write(partial(fill, since=0, until=900_000))
    await store.write(partial(add_refunds, since=0, most=1000))
    await store.write(partial(marks.put, topic=marks.ROLLED, number=BEGIN + HOUR))
    assert await refunded() == [(BEGIN, 7)]
