"""The store over PostgreSQL: a connection for the ledger, a pool for everything else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy.event
import sqlalchemy.exc
from sqlalchemy import ColumnElement, Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tollway.store import careful, migrations, owners
from tollway.store.base import IllegalOperation, Ledger, LedgerUnavailable, StoreError
from tollway.store.ledger import QueuedLedger
from tollway.store.migrations import SCRIPTS, Scripts
from tollway.store.pending import Pending
from tollway.store.postgres import lifeline
from tollway.store.postgres.ledger import RETRY_SECONDS, PostgresLedger
from tollway.store.watchers import Revisions, Watchers, revisions

T = TypeVar("T")

POOL: Final = 4
POLL_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2 * CONNECT_SECONDS
"""How long a connection of the pool may take to be had and to answer, before the database counts as away."""
ROUTINE_SECONDS: Final = 10.0
"""How long a heartbeat, or a look for changes, may take in all: it is done again soon, on another connection."""
FAREWELL_SECONDS: Final = 5.0
RETRIES: Final = 20
"""How often a change is run again after losing to another process, or to a restart."""
LOCK: Final = 0x746F6C6C776179
"""The advisory lock under which one process at a time migrates."""
CLOCK: Final[ColumnElement[int]] = sqlalchemy.literal_column(
    "(extract(epoch FROM clock_timestamp()) * 1000)::bigint", sqlalchemy.BigInteger()
)
"""The database's own time in Unix milliseconds: hosts disagree, and a process must not be declared dead for it."""
SERIALIZATION: Final = ("40001", "40P01")


class PostgresStore:
    """A Store. `clock` gives Unix milliseconds; `owner` must be new for each process."""

    engine = "postgresql"
    ledger: Ledger

    def __init__(self, url: str, owner: str, clock: Callable[[], int], scripts: Scripts = SCRIPTS) -> None:
        self._url = url
        self._where = make_url(url).render_as_string(hide_password=True)
        self._owner = owner
        self._clock = clock
        self._scripts = scripts
        self._watchers = Watchers()
        self._heard = asyncio.Event()
        self._pool: AsyncEngine | None = None
        self._queue: PostgresLedger | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._active = 0
        self._idle = asyncio.Event()
        self.ledger = QueuedLedger(owner, self._submit, self._again, self._prompt)

    async def open(self) -> None:
        """Raises UnknownSchema, LedgerUnavailable."""
        url = make_url(self._url).set(drivername="postgresql+asyncpg")
        self._pool = create_async_engine(
            url,
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            # After a restart of the server the pool's connections are dead, and nobody should hear of it.
            pool_pre_ping=True,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "server_settings": {
                    "application_name": "tollway",
                    # A process that is paused in a transaction must not keep a wallet from all others.
                    "idle_in_transaction_session_timeout": str(owners.STALE_MS),
                },
            },
        )
        sqlalchemy.event.listen(self._pool.sync_engine, "connect", _attach)
        try:
            await self._transact(self._prepare, "READ COMMITTED")
            self._watchers.begin(await self._transact(self._register, "READ COMMITTED"))
            self._queue = PostgresLedger(self._url, self._owner, self._carefully, self._heard.set)
            with suppress(OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._queue.connect()
        except BaseException:
            await self._let_go()
            raise
        self._tasks = [asyncio.create_task(self._keep_beating()), asyncio.create_task(self._keep_watching())]

    def _prepare(self, conn: Connection) -> None:
        if migrations.inspect(conn, self._where, self._scripts) == "current":
            return
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        state = migrations.inspect(conn, self._where, self._scripts)
        if state == "empty":
            migrations.create(conn, self._scripts)
        elif state == "older":
            migrations.upgrade(conn, self._where, self._scripts)
            migrations.inspect(conn, self._where, self._scripts)

    def _register(self, conn: Connection) -> Revisions:
        now = conn.execute(sqlalchemy.select(CLOCK)).scalar_one()
        owners.register(conn, self._owner, socket.gethostname(), os.getpid(), now)
        return revisions(conn)

    async def close(self) -> None:
        if self._pool is None or self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._queue is not None:
            await self._queue.close()
            self._queue = None
            with suppress(StoreError):
                await self._transact(
                    lambda conn: owners.stop(conn, self._owner, self._clock()), "READ COMMITTED"
                )
        await self._let_go()

    async def _let_go(self) -> None:
        if self._queue is not None:
            await self._queue.close()
        if self._pool is not None:
            # A connection that is in use while the pool is disposed of would never be closed.
            with suppress(TimeoutError):
                if self._active:
                    self._idle.clear()
                    await asyncio.wait_for(self._idle.wait(), FAREWELL_SECONDS)
            await self._pool.dispose()
        self._pool = self._queue = None
        self._closing = False

    def _refuse_when_closing(self) -> None:
        if self._pool is None or self._closing:
            raise LedgerUnavailable("the store is not open")

    async def read(self, query: Callable[[Connection], T]) -> T:
        self._refuse_when_closing()
        async with self._transaction("REPEATABLE READ", readonly=True) as conn:
            result: T = await conn.run_sync(query)
            return result

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Serializable, as on SQLite; a change that lost to another process is run again."""
        self._refuse_when_closing()
        for attempt in range(RETRIES):
            try:
                result = await self._transact(change, "SERIALIZABLE")
            except _Lost:
                if attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(0.002 * 2 ** min(attempt, 6))
            else:
                break
        with suppress(LedgerUnavailable):  # the change is done; watchers hear of it at the next look
            await self._look()
        return result

    async def _again(self, change: Callable[[Connection], T], /) -> T:
        """Run a change that may be run again until it is certain what became of it."""
        self._refuse_when_closing()
        for attempt in range(RETRIES):
            try:
                return await self._transact(change, "READ COMMITTED")
            except LedgerUnavailable as error:
                if attempt >= 2 and not isinstance(error, _Lost):
                    raise
                await asyncio.sleep(RETRY_SECONDS if attempt else 0)
        raise LedgerUnavailable("the database refuses to commit")

    async def _carefully(self, one: Pending) -> Any:
        return await self._transact(lambda conn: careful.carry_out(conn, self._owner, one), "READ COMMITTED")

    async def _transact(self, change: Callable[[Connection], T], isolation: str) -> T:
        async with self._transaction(isolation) as conn:
            result: T = await conn.run_sync(change)
            return result

    @asynccontextmanager
    async def _transaction(self, isolation: str, *, readonly: bool = False) -> AsyncIterator[Any]:
        if self._pool is None:
            raise LedgerUnavailable("the store is not open")
        engine = self._pool.execution_options(isolation_level=isolation, postgresql_readonly=readonly)
        self._active += 1
        try:
            async with AsyncExitStack() as stack:
                # A connection whose other end went away without a word answers nothing: no error ever comes by itself.
                async with asyncio.timeout(ANSWER_SECONDS):
                    conn = await stack.enter_async_context(engine.begin())
                yield conn
        except sqlalchemy.exc.DBAPIError as error:
            raise _meaning(error) from error
        except (TimeoutError, OSError, asyncpg.InterfaceError, sqlalchemy.exc.TimeoutError) as error:
            raise LedgerUnavailable(f"the database is away: {error!r}") from error
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    def _submit(self, one: Pending) -> None:
        if self._queue is None:
            raise LedgerUnavailable("the store is not open")
        self._queue.submit(one)

    def _prompt(self) -> bool:
        return self._queue is not None and self._queue.prompt

    def watch(self, changed: Callable[[frozenset[str]], Any]) -> None:
        self._watchers.add(changed)

    async def recover(self, now: int) -> int:
        total = 0
        while True:
            released = await self._again(lambda conn: _sweep(conn, now))
            total += released
            if released < owners.SWEEP_MAX:
                return total

    async def heartbeat(self, now: int) -> None:  # noqa: ARG002 - the database's own clock decides who is dead
        await self._again(lambda conn: owners.heartbeat(conn, self._owner, CLOCK))

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(owners.HEARTBEAT_SECONDS)
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(ROUTINE_SECONDS):
                    await self.heartbeat(0)

    async def _keep_watching(self) -> None:
        while True:
            # Not `wait_for`, which loses a cancellation that comes together with what it waits for: closing would hang.
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._heard.wait()
            self._heard.clear()
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(ROUTINE_SECONDS):
                    await self._look()

    async def _look(self) -> None:
        self._watchers.notice(await self.read(revisions))


def _attach(connection: Any, _record: object) -> None:
    lifeline.attach(connection.driver_connection)


class _Lost(LedgerUnavailable):
    """Another process's transaction went first; the same change may succeed now."""


def _sweep(conn: Connection, now: int) -> int:
    # Plans made for single rows would make the triggers compare each row of a sweep with each other.
    conn.execute(text("DISCARD PLANS"))
    owners.forget(conn, CLOCK)
    return owners.release(conn, owners.dead(CLOCK), now)


def _meaning(error: sqlalchemy.exc.DBAPIError) -> StoreError:
    if getattr(error.orig, "sqlstate", None) in SERIALIZATION:
        return _Lost(f"another process was faster: {error.orig}")
    if careful.at_fault(error):
        return IllegalOperation(str(error.orig))
    return LedgerUnavailable(f"the database failed: {error.orig}")
