"""A key is looked up once for all who ask for it at the same time, and nobody gets what was before a change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.admin import do, instance, ready

from tollway.core.errors import GatewayError
from tollway.flows import lookups
from tollway.flows.clock import now_ms
from tollway.flows.keyring import Keyring
from tollway.store.base import LedgerUnavailable, Store


class Counted:
    """A store whose reads are counted, and begin when the gate is open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.open = asyncio.Event()
        self.begun = 0
        self.ended = 0

    async def read(self, query: Callable[[Any], Any]) -> Any:
        self.begun += 1
        try:
            await self.open.wait()
            return await self._store.read(query)
        finally:
            self.ended += 1


@contextlib.asynccontextmanager
async def a_ring(folder: Path) -> AsyncIterator[tuple[Keyring, Counted, str]]:
    async with instance(ready(folder), clock=now_ms) as admin:  # type: ignore[arg-type]
        made = await do(admin, "key.create", name="ring")
        store = Counted(admin.store)
        yield Keyring(store, admin.vault.pepper), store, made["key"]  # type: ignore[arg-type]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_many_who_ask_at_once_ask_the_database_once(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        asking = [asyncio.create_task(ring.find(secret)) for _ in range(50)]
        await turns()
        store.open.set()
        found = await asyncio.gather(*asking)
        assert {key.name for key in found} == {"ring"}
        assert store.begun == 1
        assert ring.cached(ring.digest(secret)) is not None


async def test_many_keys_that_are_wanted_at_once_are_found_by_few_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(lookups, "TOGETHER", 20)
    async with instance(ready(tmp_path), clock=now_ms) as admin:  # type: ignore[arg-type]
        secrets = [(await do(admin, "key.create", name=f"k{at}"))["key"] for at in range(50)]
        store = Counted(admin.store)
        store.open.set()
        ring = Keyring(store, admin.vault.pepper)  # type: ignore[arg-type]
        found = await asyncio.gather(*map(ring.find, secrets))
        assert [key.name for key in found] == [f"k{at}" for at in range(50)]
        assert store.begun == 3


async def test_keys_wanted_while_a_query_is_under_way_are_asked_for_in_the_next(tmp_path):
    async with instance(ready(tmp_path), clock=now_ms) as admin:  # type: ignore[arg-type]
        secrets = [(await do(admin, "key.create", name=f"k{at}"))["key"] for at in range(10)]
        store = Counted(admin.store)
        ring = Keyring(store, admin.vault.pepper)  # type: ignore[arg-type]
        asking = []
        for secret in secrets:
            asking.append(asyncio.create_task(ring.find(secret)))
            await turns()
        store.open.set()
        assert [key.name for key in await asyncio.gather(*asking)] == [f"k{at}" for at in range(10)]
        assert store.begun == 2


async def test_a_query_that_fails_fails_for_all_who_wait_for_it_and_for_no_other(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):

        async def broken(query: object) -> None:
            raise LedgerUnavailable("the disk is gone")

        read, store.read = store.read, broken  # type: ignore[method-assign,assignment]
        for one in await asyncio.gather(*(ring.find(secret) for _ in range(5)), return_exceptions=True):
            assert isinstance(one, LedgerUnavailable)
        store.read = read  # type: ignore[method-assign]
        store.open.set()
        assert (await ring.find(secret)).name == "ring"


async def test_a_query_that_hangs_fails_none_of_those_behind_it(tmp_path, monkeypatch):
    async with instance(ready(tmp_path), clock=now_ms) as admin:  # type: ignore[arg-type]
        one, two = [(await do(admin, "key.create", name=f"k{at}"))["key"] for at in range(2)]
        store = Counted(admin.store)
        ring = Keyring(store, admin.vault.pepper)  # type: ignore[arg-type]
        monkeypatch.setattr(lookups, "PATIENCE_S", 0.02)
        first = asyncio.create_task(ring.find(one))
        await turns()
        monkeypatch.setattr(lookups, "PATIENCE_S", 60)
        # This one waits longer for the same query, and the other for the next.
        patient, second = (asyncio.create_task(ring.find(secret)) for secret in (one, two))
        with pytest.raises(LedgerUnavailable):
            await first
        await turns()
        assert (store.begun, store.ended) == (2, 0)
        store.open.set()
        assert ((await patient).name, (await second).name) == ("k0", "k1")


async def test_who_leaves_before_the_query_begins_is_not_asked_for(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        asking = asyncio.create_task(ring.find(secret))
        await asyncio.sleep(0)
        asking.cancel()
        await turns()
        assert store.begun == 0
        store.open.set()
        assert (await ring.find(secret)).name == "ring"


async def test_an_unknown_key_is_asked_for_once_too(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        stranger = Keyring(store, b"another pepper" * 3)  # type: ignore[arg-type]
        asking = [asyncio.create_task(stranger.find(secret)) for _ in range(10)]
        await turns()
        store.open.set()
        for one in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(one, GatewayError)
            assert one.code == "invalid_api_key"
        assert store.begun == 1


async def test_who_asks_after_a_change_does_not_get_what_was_asked_before_it(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        before = asyncio.create_task(ring.find(secret))
        await turns()
        ring.forget()
        after = asyncio.create_task(ring.find(secret))
        await turns()
        store.open.set()
        await asyncio.gather(before, after)
        assert store.begun == 2
        assert ring.cached(ring.digest(secret)) is after.result()


async def test_who_leaves_takes_nothing_from_those_who_wait(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        first, second = (asyncio.create_task(ring.find(secret)) for _ in range(2))
        await turns()
        first.cancel()
        await turns()
        late = asyncio.create_task(ring.find(secret))
        await turns()
        store.open.set()
        assert (await second).name == (await late).name == "ring"
        assert first.cancelled()


async def test_the_last_who_leaves_ends_the_look(tmp_path):
    async with a_ring(tmp_path) as (ring, store, secret):
        asking = [asyncio.create_task(ring.find(secret)) for _ in range(3)]
        await turns()
        for one in asking:
            one.cancel()
        await turns()
        assert (store.begun, store.ended) == (1, 1)
        store.open.set()
        assert (await ring.find(secret)).name == "ring"


async def test_a_look_that_hangs_is_not_waited_for_by_the_next(tmp_path, monkeypatch):
    async with a_ring(tmp_path) as (ring, store, secret):
        monkeypatch.setattr(lookups, "PATIENCE_S", 0.01)
        with pytest.raises(LedgerUnavailable):
            await ring.find(secret)
        await turns()
        assert store.ended == 1
        store.open.set()
        monkeypatch.setattr(lookups, "PATIENCE_S", 60)
        assert (await ring.find(secret)).name == "ring"
        assert store.begun == 2
