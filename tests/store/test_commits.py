"""Who makes SQLite's commits: the event loop while the disk is quick, the thread otherwise, and the log stays small."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledger import books_balance, hold_of, settlement_of, wallet_of

from tollway.config import Settings
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.sqlite import writer
from tollway.store.sqlite.store import FILE_NAME

HERE = threading.get_ident()


class Disk:
    """The clock of commits on a disk that takes `pace` seconds for each."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A connection that notes on which thread each COMMIT is made, and lets time pass with it."""

    def __init__(self, conn: Any, disk: Disk) -> None:
        self._conn = conn
        self._disk = disk
        self.commits: list[bool] = []
        """Whether each was made on the event loop."""
        self.failing = 0.0
        """After how many seconds the next one fails; 0 if it does not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT":
            self.commits.append(threading.get_ident() == HERE)
            self._disk.now += self.failing or self._disk.pace
            if self.failing:
                self.failing = 0.0
                raise sqlite3.OperationalError("disk I/O error")
        return self._conn.execute(sql, *values)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(Settings(data=str(tmp_path)))
    await found.open()
    yield found
    await found.close()


def told(store: Store, disk: Disk | None = None) -> Told:
    thread: Any = store._writer  # type: ignore[attr-defined]
    found = thread._conn = Told(thread._conn, disk or Disk(0.0))
    return found


async def idle(store: Store) -> None:
    """The thread answers a change before it hands its turn back."""
    thread: Any = store._writer  # type: ignore[attr-defined]
    while thread._busy:
        await asyncio.sleep(0)


async def calls(store: Store, wallet: int, number: int) -> None:
    for _ in range(number):
        request = hold_of(wallet, 10)
        await store.ledger.hold(request)
        assert (await store.ledger.settle(settlement_of(request.id, 7))).charged == 7


async def test_commits_move_to_the_loop_on_a_quick_disk_and_away_when_it_is_slow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(0.0001)
    monkeypatch.setattr(writer, "perf_counter", disk)
    wallet = await wallet_of(store, 1_000_000)
    seen = told(store, disk)
    await calls(store, wallet, 50)
    assert not any(seen.commits[:50]), "a new process knows nothing of the disk"
    assert all(seen.commits[-10:])

    seen.commits.clear()
    disk.pace = 0.1
    await calls(store, wallet, 10)
    assert seen.commits[0], "nobody knows before"
    assert not any(seen.commits[1:]), "the loop is held up once"

    seen.commits.clear()
    disk.pace = 0.0001
    await calls(store, wallet, 60)
    assert all(seen.commits[-10:])
    await books_balance(store)


async def test_a_commit_that_fails_after_long_was_a_slow_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(0.0001)
    monkeypatch.setattr(writer, "perf_counter", disk)
    wallet = await wallet_of(store, 1_000_000)
    seen = told(store, disk)
    await calls(store, wallet, 50)
    assert seen.commits[-1]
    seen.commits.clear()
    seen.failing = 0.1
    await calls(store, wallet, 3)
    # What it was for is done again with care, by SQLAlchemy's commit, which is not noted here.
    assert seen.commits == [True, *[False] * 5]
    await books_balance(store)


async def test_the_log_is_written_back_while_commits_are_made_on_the_loop(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", 1e9)
    monkeypatch.setattr(writer, "LOG_PAGES", 50)
    wallet = await wallet_of(store, 1_000_000)
    log = tmp_path / f"{FILE_NAME}-wal"
    seen = told(store)
    sizes = []
    for _ in range(6):
        await calls(store, wallet, 100)
        sizes.append(log.stat().st_size)
    assert sum(seen.commits) > len(seen.commits) * 0.9
    assert seen.commits.count(False) >= len(seen.commits) // (writer.HERE_MAX + 1)
    assert sizes[-1] < 2 * sizes[1], "it begins again at its start, where it would be three times as long"
    await books_balance(store)


@pytest.mark.parametrize(("callers", "commits"), [(1, 1), (4, 1), (writer.GATHER_TURNS + 1, 1), (12, 3)])
async def test_what_comes_in_one_turn_of_the_loop_after_the_other_is_one_batch(
    callers: int, commits: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", 1e9)
    wallet = await wallet_of(store, 1_000_000)
    seen = told(store)

    async def late(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.ledger.hold(hold_of(wallet, 10))

    await idle(store)
    await asyncio.gather(*map(late, range(callers)))
    assert seen.commits == [True] * commits, "nobody waits for long"
    await books_balance(store)
