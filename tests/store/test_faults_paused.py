"""F15: a process that is stopped by a signal, given up, and goes on as if nothing had happened.

It cannot know that it was away. So whatever it does afterwards must be refused or absorbed by the
database: the credits it held are the wallet's again, the job it ran is run by another.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.support import kill_loop
from tests.support.ledger import balance_of, books_balance, held_and_settled, rows_of, wallet_of
from tests.support.patient import patient_for

from tollway.config import Settings
from tollway.store import jobs
from tollway.store.base import Balance, DatabaseInUse, Store
from tollway.store.factory import open_store, unix_ms

ROOT = Path(__file__).parents[2]
DEADLINE = 30
OWNER = """
import asyncio, json, sys
from tests.support.kill_loop import settings_of
from tests.support.patient import patient
from tests.support.ledger import hold_of, settlement_of
from tollway.store import jobs, marks
from tollway.store.factory import open_store, unix_ms
from tollway.store.jobs import LeaseLost

async def main():
    patient()
    store = open_store(settings_of(sys.argv[1]), owner="paused")
    await store.open()
    held = [hold_of(int(sys.argv[2]), 100) for _ in range(3)]
    for one in held:
        await store.ledger.hold(one)
    lease = await store.write(lambda conn: jobs.claim(conn, "count", "paused", "run_paused", unix_ms()))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    def counted(conn):
        jobs.guard(conn, lease)
        marks.put(conn, "counted", 1)

    settled = [await store.ledger.settle(settlement_of(one.id, 60)) for one in held]
    try:
        await store.write(counted)
        wrote = True
    except LeaseLost:
        wrote = False
    print(json.dumps([[[one.first, one.charged, one.absorbed] for one in settled], wrote]), flush=True)
    await store.close()

asyncio.run(main())
"""
HELD_UP = """
import asyncio, json, os, signal, sys
from tests.support.kill_loop import settings_of
from tests.support.patient import patient
from tests.support.ledger import hold_of, settlement_of
from tollway.store import careful, owners
from tollway.store.factory import open_store

async def main():
    patient()
    owners.STALE_MS = 500
    store = open_store(settings_of(sys.argv[1]), owner="paused")
    await store.open()
    held = hold_of(int(sys.argv[2]), 100)
    await store.ledger.hold(held)
    overage = careful._overage

    def paused(*args):
        careful._overage = overage
        os.kill(os.getpid(), signal.SIGSTOP)
        return overage(*args)

    careful._overage = paused
    settled = await store.ledger.settle(settlement_of(held.id, 130))
    print(json.dumps([settled.charged, settled.absorbed]), flush=True)
    await store.close()

asyncio.run(main())
"""
WORKER = "import asyncio, sys; from tests.support.kill_loop import work; asyncio.run(work(sys.argv[1], int(sys.argv[2]), 1))"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_for(monkeypatch)


@asynccontextmanager
async def process(code: str, database: str, wallet: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has ended, one way or the other, when the block does."""
    command = (sys.executable, "-c", code, database, str(wallet))
    found = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            found.kill()
        await found.wait()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """A store that lives on while others are given up."""
    store = open_store(settings, owner="other")
    await store.open()
    yield store
    await store.close()


def pause(process: asyncio.subprocess.Process) -> None:
    """SIGSTOP, and wait until it stands still."""
    os.kill(process.pid, signal.SIGSTOP)
    stopped(process)


def stopped(process: asyncio.subprocess.Process) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), DEADLINE)


async def resumed(process: asyncio.subprocess.Process) -> Any:
    """Let a paused owner go on, and say what came of what it did."""
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    os.kill(process.pid, signal.SIGCONT)
    found = json.loads(await line_of(process))
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
    return found


async def given_up(store: Store) -> int:
    """As if everybody else had not been heard of for long: their holds are released, their leases run out."""

    def age(conn: Any) -> None:
        conn.execute(text("UPDATE worker SET heartbeat_at = 1 WHERE id <> :me"), {"me": "other"})
        conn.execute(text("UPDATE job SET lease_until = 1"))

    await store.write(age)
    return await store.recover(unix_ms())


@pytest.mark.postgres
async def test_an_owner_paused_until_it_was_given_up_charges_nothing_and_writes_nothing(
    fresh: Callable[[str], Settings],
) -> None:
    settings = fresh("postgresql")
    async with opened(settings) as store:
        wallet = await wallet_of(store, 1000)
        async with process(OWNER, settings.database_url, wallet) as owner:
            assert await line_of(owner) == b"ready\n"
            pause(owner)
            assert await given_up(store) == 3
            assert await balance_of(store, wallet) == Balance(1000, 0, 0)
            lease = await store.write(lambda conn: jobs.claim(conn, "count", "other", "run_other", unix_ms()))
            assert lease is not None
            settled, wrote = await resumed(owner)
        assert settled == [[False, 0, 60]] * 3
        assert not wrote
        assert await balance_of(store, wallet) == Balance(1000, 0, 0)
        assert await rows_of(store, "SELECT amount FROM entry WHERE kind = 'absorb'") == [(60,)] * 3
        assert await rows_of(store, "SELECT value FROM mark WHERE topic = 'counted'") == []
        runs = await rows_of(store, "SELECT id, status FROM job_run ORDER BY id")
        assert runs == [("run_other", "running"), ("run_paused", "failed")]
        await books_balance(store)


@pytest.mark.postgres
async def test_an_owner_paused_in_the_middle_of_a_transaction_does_not_keep_its_wallet(
    fresh: Callable[[str], Settings],
) -> None:
    settings = fresh("postgresql")
    async with opened(settings) as store:
        wallet = await wallet_of(store, 1000)
        async with process(HELD_UP, settings.database_url, wallet) as owner:
            await asyncio.to_thread(stopped, owner)
            async with asyncio.timeout(DEADLINE):
                _, found = await held_and_settled(store, wallet, 10, 4)
            assert found.charged == 4
            assert await given_up(store) == 1
            assert await resumed(owner) == [0, 130]
        assert await balance_of(store, wallet) == Balance(1000, 4, 0)
        await books_balance(store)


async def test_on_sqlite_nobody_can_give_up_a_process_that_is_paused(
    fresh: Callable[[str], Settings],
) -> None:
    settings = fresh("sqlite")
    async with opened(settings) as store:
        wallet = await wallet_of(store, 1000)
    async with process(OWNER, settings.data, wallet) as owner:
        assert await line_of(owner) == b"ready\n"
        pause(owner)
        with pytest.raises(DatabaseInUse):
            await open_store(settings).open()
        settled, wrote = await resumed(owner)
    assert settled == [[True, 60, 0]] * 3
    assert wrote
    async with opened(settings) as store:
        assert await balance_of(store, wallet) == Balance(1000, 180, 0)
        await books_balance(store)


@pytest.mark.postgres
async def test_an_owner_paused_again_and_again_under_load_is_told_the_truth_and_keeps_nobody_waiting(
    fresh: Callable[[str], Settings],
) -> None:
    settings = fresh("postgresql")
    acks: list[str] = []
    async with opened(settings) as store:
        wallet = await wallet_of(store, 10**9)
        async with process(WORKER, settings.database_url, wallet) as owner:
            for _ in range(6):
                acks += [(await line_of(owner)).decode() for _ in range(40)]
                pause(owner)
                await given_up(store)
                async with asyncio.timeout(DEADLINE):
                    for _ in range(5):
                        _, found = await held_and_settled(store, wallet, 10, 4)
                        assert found.charged == 4
                os.kill(owner.pid, signal.SIGCONT)
            owner.kill()
            assert owner.stdout is not None
            acks += (await owner.stdout.read()).decode().splitlines()
    found = await kill_loop.judge(settings.database_url, acks)
    assert {name: found[name] for name in ("lost", "open", "swept_again", "books")} == {
        "lost": [], "open": 0, "swept_again": 0, "books": [],
    }  # fmt: skip
