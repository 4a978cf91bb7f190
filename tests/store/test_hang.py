"""PostgreSQL hangs, with its connections open: nobody waits long for a hold, and none is left behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import asyncpg
import pytest
from tests.support.ledger import books_balance, hold_of, rows_of, settlement_of, wallet_of
from tests.support.postgres import PostgresServer

from tollway.config import Settings
from tollway.store.base import Balance, LedgerUnavailable, Store
from tollway.store.factory import open_store
from tollway.store.postgres import lifeline
from tollway.store.postgres.ledger import PostgresLedger
from tollway.store.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres
DEADLINE = 30.0


@pytest.fixture
async def store(postgres_database: Callable[[], str]):
    found = open_store(Settings(database_url=postgres_database()))
    await found.open()
    yield found
    await found.close()


def queue_of(store: Store) -> PostgresLedger:
    assert isinstance(store, PostgresStore)
    assert store._queue is not None
    return store._queue


async def held(store: Store) -> int:
    return len(await rows_of(store, "SELECT id FROM hold WHERE state = 'held'"))


async def test_a_server_that_hangs_refuses_holds_and_keeps_settlements(
    postgres: PostgresServer, store: Store
) -> None:
    wallet = await wallet_of(store, 1000)
    request = hold_of(wallet, 10)
    await store.ledger.hold(request)
    await asyncio.to_thread(postgres.freeze)
    try:
        settling = asyncio.ensure_future(store.ledger.settle(settlement_of(request.id, 7)))
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(LedgerUnavailable):
                await store.ledger.hold(hold_of(wallet, 1))
            # The commit itself is still under way: nobody waited for its end.
            assert queue_of(store)._stuck
            with pytest.raises(LedgerUnavailable):
                await store.ledger.hold(hold_of(wallet, 1))
        assert not settling.done()
    finally:
        await asyncio.to_thread(postgres.thaw)
    settled = await asyncio.wait_for(settling, DEADLINE)
    assert settled.charged == 7
    async with asyncio.timeout(DEADLINE):
        while await held(store):
            await asyncio.sleep(0.05)
        while True:
            try:
                assert (await store.ledger.hold(hold_of(wallet, 1))).available == 992
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
    await books_balance(store)


async def test_questions_to_a_server_that_hangs_are_refused_and_answered_when_it_is_back(
    postgres: PostgresServer, store: Store
) -> None:
    wallet = await wallet_of(store, 1000)
    await asyncio.to_thread(postgres.freeze)
    try:
        async with asyncio.timeout(DEADLINE):
            # More than the pool has connections, each of which was alive before.
            asked = [asyncio.ensure_future(held(store)) for _ in range(6)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(one) for one in found] == [LedgerUnavailable] * 6
            with pytest.raises(LedgerUnavailable):
                await wallet_of(store, 1000)
    finally:
        await asyncio.to_thread(postgres.thaw)
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                assert await held(store) == 0
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
        assert (await store.ledger.hold(hold_of(wallet, 1))).available == 999
    await books_balance(store)


async def test_a_hold_that_is_made_after_it_was_refused_is_given_back(store: Store) -> None:
    """A lock keeps the commit for longer than a caller waits, and then lets it through."""
    wallet = await wallet_of(store, 1000)
    assert isinstance(store, PostgresStore)
    conn = await asyncpg.connect(store._url)
    try:
        lock = conn.transaction()
        await lock.start()
        await conn.execute("SELECT id FROM ledger_account WHERE id = $1 FOR UPDATE", wallet)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(LedgerUnavailable):
                await store.ledger.hold(hold_of(wallet, 10))
        assert queue_of(store)._given_up
        await lock.rollback()
        async with asyncio.timeout(DEADLINE):
            while queue_of(store)._given_up or queue_of(store)._backlog or await held(store):
                await asyncio.sleep(0.02)
        assert await store.ledger.hold(hold_of(wallet, 1)) == Balance(1000, 0, 1)
    finally:
        await conn.close()
    await books_balance(store)


async def test_those_who_wait_behind_a_commit_that_hangs_are_never_sent(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    assert isinstance(store, PostgresStore)
    conn = await asyncpg.connect(store._url)
    try:
        lock = conn.transaction()
        await lock.start()
        await conn.execute("SELECT id FROM ledger_account WHERE id = $1 FOR UPDATE", wallet)
        first = asyncio.ensure_future(store.ledger.hold(hold_of(wallet, 10)))
        await asyncio.sleep(0)
        while queue_of(store)._queue:
            await asyncio.sleep(0)
        behind = [asyncio.ensure_future(store.ledger.hold(hold_of(wallet, 10))) for _ in range(5)]
        async with asyncio.timeout(DEADLINE):
            found = await asyncio.gather(first, *behind, return_exceptions=True)
        assert [type(one) for one in found] == [LedgerUnavailable] * 6
        await lock.rollback()
        async with asyncio.timeout(DEADLINE):
            while queue_of(store)._given_up or queue_of(store)._backlog or await held(store):
                await asyncio.sleep(0.02)
        assert len(await rows_of(store, "SELECT id FROM hold")) <= 1
    finally:
        await conn.close()
    await books_balance(store)


@pytest.mark.parametrize("turns", range(6))
async def test_a_store_that_closes_as_it_hears_of_a_change_ends(
    postgres_database: Callable[[], str], turns: int
) -> None:
    found = open_store(Settings(database_url=postgres_database()))
    await found.open()
    assert isinstance(found, PostgresStore)
    for _ in range(10):
        await asyncio.sleep(0)  # its watcher waits by now
    found._heard.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        await found.close()


async def test_a_network_that_is_gone_is_found_out_while_a_query_waits(store: Store) -> None:
    """The kernel asks the other host whether it is there, for the ledger's connection and for those of the pool."""
    pooled = await store.read(lambda conn: conn.connection.driver_connection)
    for connection in (pooled, queue_of(store)._conn):
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == lifeline.IDLE_SECONDS
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == lifeline.BETWEEN_SECONDS
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == lifeline.PROBES
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == lifeline.UNANSWERED_MS
