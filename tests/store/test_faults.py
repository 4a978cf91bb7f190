"""Crashes, kills, a database that goes away: nothing acknowledged is lost, nothing is promised in vain."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledger import (
    balance_of,
    books_balance,
    hold_of,
    rows_of,
    settlement_of,
    wallet_of,
)
from tests.support.postgres import PostgresServer

from tollway.config import Settings
from tollway.store.base import Balance, InsufficientFunds, LedgerUnavailable, Store
from tollway.store.factory import open_store
from tollway.store.sqlite import writer
from tollway.store.sqlite.store import FILE_NAME

ROOT = Path(__file__).parents[2]
DEADLINE = 30


@asynccontextmanager
async def a_store(settings: Settings) -> AsyncIterator[Store]:
    store = open_store(settings)
    await store.open()
    yield store
    await store.close()


KEPT = {"lost": [], "open": 0, "swept_again": 0, "books": []}
"""What a kill loop finds where every promise was kept."""


def kill_loop(rounds: int, database: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.kill_loop", str(rounds), database, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("engine", "rounds"), [("sqlite", 80), pytest.param("postgresql", 20, marks=pytest.mark.postgres)]
)
def test_a_killed_process_loses_nothing_it_was_promised(
    engine: str, rounds: int, fresh: Callable[[str], Settings]
) -> None:
    settings = fresh(engine)
    found = kill_loop(rounds, settings.database_url or settings.data)
    assert found["acks"] > rounds
    assert found["released"] > 0
    assert found["drawn"] == 0
    assert {name: found[name] for name in KEPT} == KEPT


@pytest.mark.parametrize(
    ("engine", "rounds"), [("sqlite", 40), pytest.param("postgresql", 10, marks=pytest.mark.postgres)]
)
def test_a_killed_process_with_leases_loses_no_settlement_and_leaves_none_held(
    engine: str, rounds: int, fresh: Callable[[str], Settings]
) -> None:
    settings = fresh(engine)
    found = kill_loop(rounds, settings.database_url or settings.data, "leased")
    assert found["acks"] > rounds
    assert found["drawn"] > rounds
    assert found["released"] > rounds // 2, "most processes left a lease"
    assert {name: found[name] for name in KEPT} == KEPT


# -- SQLite that cannot commit ------------------------------------------------------------------------


@pytest.fixture(params=[0.0, 1e9], ids=["by the thread", "on the loop"])
def committed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where plain batches are committed."""
    monkeypatch.setattr(writer, "QUICK_SECONDS", request.param)


@contextmanager
def locked(settings: Settings) -> Any:
    """Another program holds the write lock."""
    other = sqlite3.connect(Path(settings.data) / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def full(settings: Settings) -> Any:
    """No file may grow beyond what the log has now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("trouble", [locked, full])
async def test_while_sqlite_cannot_commit_holds_fail_closed_and_settlements_wait(
    trouble: Any, tmp_path: Path
) -> None:
    settings = Settings(data=str(tmp_path))
    async with a_store(settings) as store:
        wallet = await wallet_of(store, 1000)
        opened = [hold_of(wallet, 10) for _ in range(5)]
        await asyncio.gather(*map(store.ledger.hold, opened))
        with trouble(settings):
            settling = [asyncio.create_task(store.ledger.settle(settlement_of(one.id, 7))) for one in opened]
            for _ in range(2):
                refused = await asyncio.gather(
                    *(store.ledger.hold(hold_of(wallet, 10)) for _ in range(5)), return_exceptions=True
                )
                assert all(isinstance(one, LedgerUnavailable) for one in refused), refused
            with pytest.raises(LedgerUnavailable):
                await store.write(lambda conn: conn.exec_driver_sql("INSERT INTO instance VALUES ('a', 'b')"))
            assert (await balance_of(store, wallet)).held == 50
            assert not any(task.done() for task in settling)
        settled = await asyncio.wait_for(asyncio.gather(*settling), DEADLINE)
        assert [(one.first, one.charged) for one in settled] == [(True, 7)] * 5
        assert await store.ledger.hold(hold_of(wallet, 10)) == Balance(1000, 35, 10)
        await books_balance(store)


async def test_a_store_that_closes_while_nothing_can_be_committed_tells_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FAREWELL_TRIES", 1)
    settings = Settings(data=str(tmp_path))
    async with a_store(settings) as store:
        wallet = await wallet_of(store, 1000)
        request = hold_of(wallet, 10)
        await store.ledger.hold(request)
        with locked(settings):
            settling = asyncio.create_task(store.ledger.settle(settlement_of(request.id, 7)))
            with pytest.raises(LedgerUnavailable):
                await store.ledger.hold(hold_of(wallet, 10))
            await store.close()
            with pytest.raises(LedgerUnavailable):
                await settling
    async with a_store(settings) as store:
        assert await balance_of(store, wallet) == Balance(1000, 0, 0)
        late = await store.ledger.settle(settlement_of(request.id, 7))
        assert (late.charged, late.absorbed) == (0, 7)
        await books_balance(store)


class Flaky:
    """A connection whose COMMIT fails: before it is done, or after."""

    def __init__(self, conn: Any, after: bool) -> None:
        self._conn = conn
        self._after = after
        self.failures = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and self.failures:
            self.failures -= 1
            if self._after:
                self._conn.execute("COMMIT")
            raise sqlite3.OperationalError("disk I/O error")
        return self._conn.execute(sql, *values)


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
async def test_an_ambiguous_commit_on_sqlite_is_resolved_before_anyone_hears(
    after: bool, tmp_path: Path
) -> None:
    async with a_store(Settings(data=str(tmp_path))) as store:
        wallet = await wallet_of(store, 1000)
        first, second = hold_of(wallet, 10), hold_of(wallet, 20)
        await store.ledger.hold(first)
        thread: Any = store._writer  # type: ignore[attr-defined]
        flaky = thread._conn = Flaky(thread._conn, after)
        settled, balance = await asyncio.gather(
            store.ledger.settle(settlement_of(first.id, 7)), store.ledger.hold(second)
        )
        assert flaky.failures == 0
        assert (settled.first, settled.charged) == (True, 7)
        assert balance == await balance_of(store, wallet) == Balance(1000, 7, 20)
        assert (await store.ledger.settle(settlement_of(second.id, 20))).first
        await books_balance(store)


# -- PostgreSQL that goes away ------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill], ids=["immediate", "kill -9"])
async def test_postgresql_ended_under_load_loses_nothing_acknowledged(
    end: Callable[[PostgresServer], None], postgres: PostgresServer, fresh: Callable[[str], Settings]
) -> None:
    async with a_store(fresh("postgresql")) as store:
        wallet = await wallet_of(store, 10**9)
        held: set[str] = set()
        charged: dict[str, int] = {}
        stop = asyncio.Event()

        async def caller() -> None:
            while not stop.is_set():
                request = hold_of(wallet, 10)
                try:
                    await store.ledger.hold(request)
                except LedgerUnavailable:
                    await asyncio.sleep(0.01)
                    continue
                held.add(request.id)
                settled = await store.ledger.settle(settlement_of(request.id, 4))
                assert settled.first
                charged[request.id] = settled.charged

        callers = [asyncio.create_task(caller()) for _ in range(16)]
        for _ in range(3):
            await reached(charged, len(charged) + 200, callers)
            await asyncio.to_thread(end, postgres)
            try:
                with pytest.raises(LedgerUnavailable):
                    await store.ledger.hold(hold_of(wallet, 10))
            finally:
                await asyncio.to_thread(postgres.start)
        await reached(charged, len(charged) + 200, callers)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*callers), DEADLINE)
        calls = dict(await rows_of(store, "SELECT id, charged FROM call"))
        assert calls == charged
        states = dict(await rows_of(store, "SELECT id, state FROM hold"))
        assert {states[one] for one in held} == {"settled"}
        # Holds refused in doubt may have been committed; they have been released since.
        await none_open(store)
        await books_balance(store)


async def reached(charged: dict[str, int], goal: int, tasks: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(charged) < goal:
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)


async def none_open(store: Store) -> None:
    async with asyncio.timeout(DEADLINE):
        while await rows_of(store, "SELECT id FROM hold WHERE state = 'held'"):
            await asyncio.sleep(0.05)


@pytest.mark.postgres
async def test_postgresql_away_refuses_at_once_and_settlements_survive(
    postgres: PostgresServer, fresh: Callable[[str], Settings]
) -> None:
    async with a_store(fresh("postgresql")) as store:
        wallet = await wallet_of(store, 1000)
        request = hold_of(wallet, 10)
        await store.ledger.hold(request)
        await asyncio.to_thread(postgres.stop)
        try:
            settling = asyncio.create_task(store.ledger.settle(settlement_of(request.id, 7)))
            for use in (store.ledger.hold(hold_of(wallet, 1)), store.ledger.hold(hold_of(wallet, 1))):
                with pytest.raises(LedgerUnavailable):
                    await use
            with pytest.raises(LedgerUnavailable):
                await store.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
            with pytest.raises(LedgerUnavailable):
                await store.write(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        finally:
            await asyncio.to_thread(postgres.start)
        settled = await asyncio.wait_for(settling, DEADLINE)
        assert (settled.charged, settled.balance) == (7, Balance(1000, 7, 0))
        await books_balance(store)


class Severed:
    """A driver's connection that is cut while a batch commits: before the server did it, or after."""

    def __init__(self, conn: Any, after: bool) -> None:
        self._conn = conn
        self._after = after
        self.failures = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        if not self.failures:
            return await self._conn.fetchrow(*args, **options)
        self.failures -= 1
        if self._after:
            await self._conn.fetchrow(*args, **options)
        self._conn.terminate()
        raise ConnectionResetError("cut")


@pytest.mark.postgres
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
async def test_an_ambiguous_commit_on_postgresql_is_resolved_before_anyone_hears(
    after: bool, fresh: Callable[[str], Settings]
) -> None:
    async with a_store(fresh("postgresql")) as store:
        wallet = await wallet_of(store, 1000)
        first, second = hold_of(wallet, 10), hold_of(wallet, 20)
        await store.ledger.hold(first)
        queue: Any = store._queue  # type: ignore[attr-defined]
        severed = queue._conn = Severed(queue._conn, after)
        settled, balance = await asyncio.gather(
            store.ledger.settle(settlement_of(first.id, 7)), store.ledger.hold(second)
        )
        assert severed.failures == 0
        assert (settled.first, settled.charged) == (True, 7)
        assert balance == await balance_of(store, wallet) == Balance(1000, 7, 20)
        await books_balance(store)


RACER = """
import asyncio, sys
from tests.support.ledger import hold_of, settlement_of
from tollway.config import Settings
from tollway.store.base import InsufficientFunds
from tollway.store.factory import open_store
from tests.support.patient import patient

async def main():
    patient()
    store = open_store(Settings(database_url=sys.argv[1]))
    await store.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    wallets = [int(one) for one in sys.argv[2:]]
    served = 0
    async def caller(n):
        nonlocal served
        for turn in range(50):
            request = hold_of(wallets[(n + turn) % len(wallets)], 10)
            try:
                await store.ledger.hold(request)
            except InsufficientFunds:
                continue
            served += 1
            if served % 3 == 0:
                await store.ledger.settle(settlement_of(request.id, 10))
    await asyncio.gather(*(caller(n) for n in range(16)))
    print(served, flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.postgres
async def test_four_processes_race_two_wallets_and_exactly_what_is_there_is_served(
    fresh: Callable[[str], Settings],
) -> None:
    settings = fresh("postgresql")
    async with a_store(settings) as store:
        wallets = [await wallet_of(store, 2000), await wallet_of(store, 1005)]
        racers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                RACER,
                settings.database_url,
                *map(str, wallets),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            for _ in range(4)
        ]
        for racer in racers:
            assert racer.stdout is not None and await racer.stdout.readline() == b"ready\n"
        outputs = await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))
        assert sum(int(output) for output, _ in outputs) == 300
        with pytest.raises(InsufficientFunds):
            await store.ledger.hold(hold_of(wallets[0], 1))
        assert (await balance_of(store, wallets[1])).available == 5
        await books_balance(store)
