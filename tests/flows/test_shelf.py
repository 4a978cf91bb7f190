"""Answers kept by many at once: few transactions, no answer lost, and one that cannot be kept harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from tests.store.test_responses import new

from tollway.config import Settings
from tollway.flows import shelf
from tollway.flows.shelf import Shelf
from tollway.store import schema
from tollway.store.base import LedgerUnavailable, Store, StoreError
from tollway.store.factory import open_store
from tollway.store.responses import Owner

OWNER = Owner("acc", "prj")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = request.getfixturevalue("postgres_database")() if request.param == "postgresql" else ""
    found = open_store(Settings(data=str(tmp_path / "data"), database_url=url))
    await found.open()
    yield found
    await found.close()


class Counted:
    """A store that counts its writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes = 0

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def write(self, change):
        self.writes += 1
        return await self._store.write(change)


async def names(store: Store) -> set[str]:
    table = schema.response
    found = await store.read(lambda conn: conn.execute(select(table.c.id)).scalars().all())
    return {name.rpartition("_")[2] for name in found}


async def test_what_comes_together_is_kept_together(store):
    counted = Counted(store)
    kept = Shelf(counted)
    await asyncio.gather(*(kept.add(new(OWNER, str(number))) for number in range(150)))
    assert await names(store) == {str(number) for number in range(150)}
    assert counted.writes <= 4
    await kept.add(new(OWNER, "later"))
    await kept.add(new(OWNER, "later"))
    assert len(await names(store)) == 151


async def test_one_that_cannot_be_kept_harms_no_other(store):
    kept = Shelf(store)
    rows = [new(OWNER, "1"), new(OWNER, "bad", depth=0), new(OWNER, "2")]
    results = await asyncio.gather(*map(kept.add, rows), return_exceptions=True)
    assert (results[0], results[2]) == (None, None)
    assert isinstance(results[1], StoreError | DBAPIError), results[1]
    assert await names(store) == {"1", "2"}


async def test_whoever_stops_waiting_is_kept_all_the_same(store):
    kept = Shelf(store)
    waiting = [asyncio.create_task(kept.add(new(OWNER, name))) for name in ("1", "2")]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await kept.add(new(OWNER, "3"))
    assert await names(store) == {"1", "2", "3"}


async def test_a_database_that_is_away_is_told_to_all_and_used_again_when_it_is_back(store, monkeypatch):
    monkeypatch.setattr(shelf, "RETRY_SECONDS", 0)
    kept = Shelf(store)
    await store.close()
    results = await asyncio.gather(
        *(kept.add(new(OWNER, str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LedgerUnavailable] * 3
    await store.open()
    await kept.add(new(OWNER, "back"))
    assert await names(store) == {"back"}
