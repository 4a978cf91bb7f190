"""Old calls are deleted a few at a time, only when rolled up and sealed, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from tests.store.test_rollups import BEGIN, DAY, everything_agrees, fill
from tests.support.ledger import books_balance, hold_of, rows_of, settlement_of, wallet_of

from tollway.config import Settings
from tollway.store import key_use, marks, sealed
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.retention import oldest, prune
from tollway.store.rollups import usage
from tollway.store.rollups.sums import QUARTER_MS


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, fresh: Callable[[str], Settings]) -> AsyncIterator[Store]:
    """A store nobody else uses: what is deleted here is all there is."""
    found = open_store(fresh(request.param))
    await found.open()
    yield found
    await found.close()


async def seal_all(store: Store) -> None:
    while one := await store.read(lambda conn: sealed.drafted(conn, sealed.horizon(conn))):
        await store.write(partial(sealed.affix, one=one, now=1))


async def calls(store: Store, count: int, *, since: int = BEGIN) -> int:
    wallet = await wallet_of(store, 10**9)
    owner = (await rows_of(store, "SELECT owner FROM ledger_account WHERE id = :wallet", wallet=wallet))[0][0]
    for n in range(count):
        at = since + n * 400_000
        request = hold_of(wallet, 100, created_at=at)
        await store.ledger.hold(request)
        facts = {"account_id": owner, "key_id": f"key_{n % 3}", "created_at": at, "finished_at": at + 1000}
        await store.ledger.settle(settlement_of(request.id, 10 + n, tries=1 + n % 2, **facts))
    return wallet


async def rolled(store: Store, until: int = BEGIN + DAY) -> None:
    await store.write(partial(fill, since=BEGIN, until=until))
    await store.write(partial(marks.advance, topic=marks.ROLLED, number=until))


async def used(store: Store) -> object:
    return await store.read(partial(usage, since=BEGIN, until=BEGIN + 9 * DAY, by=("day", "key")))


async def test_what_was_used_stays_the_same_while_calls_go(store: Store) -> None:
    await calls(store, 40)
    await rolled(store)
    await seal_all(store)
    before = await used(store)
    owner = (await rows_of(store, "SELECT DISTINCT account_id FROM call"))[0][0]
    of_key = partial(key_use.since, key_id="key_1", start=0, now=BEGIN + 9 * DAY)
    last_of_key = partial(key_use.last_used, account_id=owner, key_id="key_1")
    use = await store.read(of_key)
    last = await store.read(last_of_key)
    assert last is not None
    assert (use.calls, use.charged) == (13, sum(10 + n for n in range(40) if n % 3 == 1))
    deleted = 0
    while gone := await store.write(partial(prune, before=BEGIN + 9 * DAY, most=7)):
        assert gone <= 7
        deleted += gone
        assert await used(store) == before
        assert await store.read(of_key) == use
        found = await store.read(last_of_key)
        assert found in (last, last - last % QUARTER_MS)
        await everything_agrees(store)
        await books_balance(store)
    assert deleted == 40
    assert await rows_of(store, "SELECT count(*) FROM call") == [(0,)]
    assert await rows_of(store, "SELECT count(*) FROM attempt") == [(0,)]
    assert await rows_of(store, "SELECT count(*) FROM rollup WHERE kept = 0") == [(0,)]
    assert await rows_of(store, "SELECT count(*) FROM entry WHERE kind = 'settle'") == [(40,)]
    assert await store.read(oldest) is None
    await store.write(partial(fill, since=BEGIN, until=BEGIN + DAY))
    assert await used(store) == before


async def test_calls_that_are_not_rolled_up_stay(store: Store) -> None:
    await calls(store, 6)
    await seal_all(store)
    assert await store.write(partial(prune, before=BEGIN + DAY)) == 0
    await rolled(store, BEGIN + 900_000)
    assert await store.write(partial(prune, before=BEGIN + DAY)) == 3
    assert await store.read(partial(marks.value, topic=marks.PRUNED)) == BEGIN + 801_001


async def test_calls_whose_entries_are_not_sealed_stay(store: Store) -> None:
    await calls(store, 6)
    await rolled(store)
    assert await store.write(partial(prune, before=BEGIN + DAY)) == 0
    await seal_all(store)
    assert await store.write(partial(prune, before=BEGIN + DAY)) == 6


async def test_calls_younger_than_asked_stay(store: Store) -> None:
    await calls(store, 6)
    await rolled(store)
    await seal_all(store)
    assert await store.write(partial(prune, before=BEGIN + 401_000)) == 1


async def test_a_call_that_was_never_counted_is_counted_by_its_deletion(store: Store) -> None:
    await calls(store, 4)
    await rolled(store)
    await calls(store, 1, since=BEGIN + 5000)
    await seal_all(store)
    while await store.write(partial(prune, before=BEGIN + DAY, most=2)):
        pass
    found = await store.read(partial(usage, since=BEGIN, until=BEGIN + DAY))
    assert (found[0].calls, found[0].charged) == (5, 10 + 11 + 12 + 13 + 10)
    await everything_agrees(store)
