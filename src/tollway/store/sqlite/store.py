"""The store over one SQLite file: a writing thread, a few readers, and a lock on the folder."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy.exc
from sqlalchemy import Connection, Engine, true

from tollway.store import owners
from tollway.store.base import HoldRequest, Ledger, LedgerUnavailable, StoreError
from tollway.store.ledger import QueuedLedger
from tollway.store.lock import FolderLock
from tollway.store.migrations import SCRIPTS, Scripts
from tollway.store.pending import Pending
from tollway.store.sqlite.ballast import Ballast
from tollway.store.sqlite.connect import READERS, reading_engine
from tollway.store.sqlite.prepare import prepare
from tollway.store.sqlite.writer import Writer
from tollway.store.watchers import Revisions, Watchers, revisions

T = TypeVar("T")
FILE_NAME: Final = "tollway.db"


class SqliteStore:
    """A Store. `clock` gives Unix milliseconds; `owner` must be new for each process; `ballast` is in bytes."""

    engine = "sqlite"
    ledger: Ledger

    def __init__(
        self,
        folder: Path,
        owner: str,
        clock: Callable[[], int],
        scripts: Scripts = SCRIPTS,
        *,
        ballast: int = 0,
    ) -> None:
        self._path = folder / FILE_NAME
        self._owner = owner
        self._clock = clock
        self._scripts = scripts
        self._lock = FolderLock(folder)
        self._ballast = Ballast(folder, ballast)
        self._watchers = Watchers()
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reading: Engine | None = None
        self._beat: asyncio.Task[None] | None = None
        self._closing = False
        self.ledger = QueuedLedger(owner, self._submit, self._change, self._prompt)

    async def open(self) -> None:
        """Raises DatabaseInUse, UnknownSchema, DamagedDatabase, StoreError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.take()
        try:
            await asyncio.to_thread(self._prepare)
            self._writer = Writer(self._path, self._owner, self._ballast.give_up)
            self._readers = ThreadPoolExecutor(READERS, "tollway-reader")
            self._reading = reading_engine(self._path)
            try:
                await self._take_over()
            except LedgerUnavailable:
                if not self._ballast.spent:
                    raise
                await self._take_over()
        except BaseException:
            await self._let_go(clean=False)
            raise
        self._beat = asyncio.create_task(self._keep_beating())

    def _prepare(self) -> None:
        try:
            prepare(self._path, self._scripts, check=self._lock.unclean)
        except StoreError as error:
            if not self._ballast.give_up(error):
                raise
            prepare(self._path, self._scripts, check=self._lock.unclean)

    async def _take_over(self) -> None:
        # The lock proves that no other process serves this file, so no open hold has an owner.
        await self._sweep(true(), self._clock())
        self._watchers.begin(await self._change(self._register))

    def _register(self, conn: Connection) -> Revisions:
        owners.register(conn, self._owner, socket.gethostname(), os.getpid(), self._clock())
        owners.forget(conn, self._clock())
        return revisions(conn)

    async def close(self) -> None:
        if self._writer is None or self._closing:
            return
        self._closing = True
        if self._beat is not None:
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)
        try:
            await self._writer.job(lambda conn: owners.stop(conn, self._owner, self._clock()))
            clean = True
        except LedgerUnavailable:
            clean = False
        await self._let_go(clean=clean)

    async def _let_go(self, *, clean: bool) -> None:
        readers, self._readers = self._readers, None
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
        if self._reading is not None:
            self._reading.dispose()
        if self._writer is not None:
            await self._writer.close()
        self._writer = None
        self._closing = False
        self._lock.release(clean=clean)

    async def read(self, query: Callable[[Connection], T]) -> T:
        if self._readers is None or self._closing:
            raise LedgerUnavailable("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        assert self._reading is not None
        try:
            with self._reading.begin() as conn:
                return query(conn)
        except (sqlalchemy.exc.OperationalError, sqlite3.OperationalError) as error:
            raise LedgerUnavailable(
                f"the database cannot be read: {getattr(error, 'orig', error)}"
            ) from error

    async def write(self, change: Callable[[Connection], T]) -> T:
        def noticed(conn: Connection) -> tuple[T, Revisions]:
            return change(conn), revisions(conn)

        result, now = await self._change(noticed)
        self._watchers.notice(now)
        return result

    async def _change(self, change: Callable[[Connection], T], /) -> T:
        if self._writer is None or self._closing:
            raise LedgerUnavailable("the store is not open")
        result: T = await self._writer.job(change)
        return result

    def _submit(self, one: Pending) -> None:
        if self._writer is None or self._closing:
            raise LedgerUnavailable("the store is not open")
        if self._ballast.spent and isinstance(one.request, HoldRequest):
            raise LedgerUnavailable("the disk is full; what room there is is for settlements")
        self._writer.submit(one)

    def _prompt(self) -> bool:
        return self._writer is not None and not self._ballast.spent and self._writer.prompt

    def watch(self, changed: Callable[[frozenset[str]], Any]) -> None:
        self._watchers.add(changed)

    async def recover(self, now: int) -> int:
        return await self._sweep(owners.foreign(self._owner), now)

    async def _sweep(self, whose: Any, now: int) -> int:
        total = 0
        while True:
            released = await self._change(lambda conn: owners.release(conn, whose, now))
            total += released
            if released < owners.SWEEP_MAX:
                return total

    async def heartbeat(self, now: int) -> None:
        await self._change(lambda conn: owners.heartbeat(conn, self._owner, now))

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(owners.HEARTBEAT_SECONDS)
            try:
                await asyncio.to_thread(self._ballast.tend)
                await self.heartbeat(self._clock())
            except LedgerUnavailable:
                continue  # Nobody else may release our holds: the folder's lock is ours.
