"""The thread that owns the writing connection: ledger batches first, then changes, one after the other.

There is no timer: while one batch commits the next one gathers. When the database cannot commit,
holds are refused and settlements are kept and tried again, because what they settle has happened.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import sqlalchemy.exc
from sqlalchemy import Connection, Engine

from tollway.store import careful
from tollway.store.base import HoldRequest, IllegalOperation, LedgerUnavailable
from tollway.store.pending import BACKLOG_MAX, BATCH_MAX, OpenHolds, Pending, Void, resolve
from tollway.store.sqlite import ledger
from tollway.store.sqlite.connect import open_writer, writing_engine

RETRY_SECONDS: Final = 0.25
REOPEN_AFTER: Final = 20
FAREWELL_TRIES: Final = 8
"""How often `close` tries to commit what is left."""


class Job:
    """A change to run in a transaction of its own; what it returns or raises goes to `future`."""

    __slots__ = ("change", "future")

    def __init__(self, change: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        self.change = change
        self.future = future


class Writer:
    """Owns the thread. `submit` and `job` are called on the event loop, everything else runs on the thread."""

    def __init__(self, path: Path, owner: str) -> None:
        self._path = path
        self._owner = owner
        self._inbox: SimpleQueue[list[Pending] | Job | None] = SimpleQueue()
        self._outbox: list[Pending] = []
        self._backlog: list[Pending] = []
        self._closing = False
        self._sick = False
        self._failures = 0
        self._known = OpenHolds()
        self._conn: sqlite3.Connection | None = None
        self._engine: Engine | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tollway-writer", daemon=True)
        self._thread.start()

    # -- on the event loop ---------------------------------------------------------------------

    def submit(self, one: Pending) -> None:
        """Queue a ledger operation; its future is resolved after the commit.

        What is submitted in one turn of the loop is handed over at its end, in one piece: callers
        woken together by one commit make one batch again, and the thread is woken once.
        """
        self._refuse_when_closing()
        if not self._outbox:
            self._loop.call_soon(self._hand_over)
        self._outbox.append(one)

    def _hand_over(self) -> None:
        if self._outbox:
            self._inbox.put(self._outbox)
            self._outbox = []

    def job(self, change: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """Queue a change; the future has its outcome after the commit."""
        self._refuse_when_closing()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._hand_over()
        self._inbox.put(Job(change, future))
        return future

    async def close(self) -> None:
        """Finish what is queued, as far as the database lets us, and end the thread."""
        self._closing = True
        self._hand_over()
        self._inbox.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise LedgerUnavailable("the store is closing")

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        running = True
        while running:
            batch, jobs, running = self._gather()
            if self._backlog or batch:
                self._commit(self._backlog + batch)
            for job in jobs:
                self._change(job)
        for _ in range(FAREWELL_TRIES):
            if not self._backlog:
                break
            threading.Event().wait(RETRY_SECONDS)
            self._commit(self._backlog)
        self._give_up()
        self._disconnect(checkpoint=True)

    def _gather(self) -> tuple[list[Pending], list[Job], bool]:
        """All that waits, up to about a batch; blocks for the first. False as last: it was told to end."""
        batch: list[Pending] = []
        jobs: list[Job] = []
        try:
            item = self._inbox.get(timeout=RETRY_SECONDS if self._backlog else None)
            while item is not None:
                if isinstance(item, Job):
                    jobs.append(item)
                else:
                    batch += item
                if len(batch) >= BATCH_MAX or len(jobs) >= BATCH_MAX:
                    return batch, jobs, True
                item = self._inbox.get_nowait()
        except Empty:
            return batch, jobs, True
        return batch, jobs, False

    def _commit(self, batch: list[Pending]) -> None:
        self._backlog = []
        try:
            self._carry_out(batch)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave callers waiting for ever
            for one in batch:
                one.answer = one.answer or LedgerUnavailable(f"the ledger failed: {error!r}")
        answered = [one for one in batch if one.answer is not None]
        self._known.learn(answered)
        self._loop_call(resolve, answered)

    def _carry_out(self, batch: list[Pending]) -> None:
        """Do a batch, once more by the same ids if the database failed, and refuse it if it failed again."""
        try:
            self._attempt(batch)
        except (sqlite3.Error, LedgerUnavailable) as error:
            if self._sick:
                self._refuse(batch, error)
                return
        else:
            return
        try:
            self._attempt(batch)
        except (sqlite3.Error, LedgerUnavailable) as error:
            self._sick = True
            self._refuse(batch, error)

    def _attempt(self, batch: list[Pending]) -> None:
        """Answer all that has no answer. Raises when the database fails; what was answered before that is durable."""
        plan = self._known.plan([one for one in batch if one.answer is None])
        try:
            odd = ledger.run(self._connection(), self._owner, plan, self._known)
        except sqlite3.Error:
            self._failed(plan.settles + plan.holds)
            raise
        for one in odd:
            try:
                self._carefully(one)
            except LedgerUnavailable:
                self._failed([one])
                raise
        self._sick = False
        self._failures = 0

    def _carefully(self, one: Pending) -> None:
        try:
            one.answer = self._transact(lambda conn: careful.carry_out(conn, self._owner, one))
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            one.answer = error

    def _failed(self, plain: list[Pending]) -> None:
        """After an error nothing is known: forget the answers.

        The connection is kept, because opening one needs room on a disk that may be full; it is
        replaced when it has failed often in a row, or cannot even roll back.
        """
        for one in plain:
            one.answer = None
            one.doubtful = True
        self._failures += 1
        if self._failures % REOPEN_AFTER == 0 or not self._rolled_back():
            self._disconnect(checkpoint=False)

    def _rolled_back(self) -> bool:
        try:
            if self._conn is not None:
                self._conn.rollback()
        except sqlite3.Error:
            return False
        return True

    def _refuse(self, batch: list[Pending], cause: Exception) -> None:
        """Fail holds closed; keep what settles for the next try, as far as there is room."""
        for one in batch:
            request = one.request
            if one.answer is not None:
                continue
            if isinstance(request, HoldRequest):
                one.answer = LedgerUnavailable(f"the database cannot commit: {cause}")
                if one.doubtful:
                    self._keep(Pending(Void(request.id, request.created_at), None))
            elif len(self._backlog) < BACKLOG_MAX:
                self._keep(one)
            else:
                one.answer = LedgerUnavailable("too many settlements wait for the database")

    def _keep(self, one: Pending) -> None:
        if len(self._backlog) < BACKLOG_MAX:
            self._backlog.append(one)

    def _give_up(self) -> None:
        for one in self._backlog:
            one.answer = LedgerUnavailable("the database could not commit before the end")
        self._loop_call(resolve, self._backlog)

    def _change(self, job: Job) -> None:
        try:
            outcome: Any = self._transact(job.change)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            self._loop_call(_fail, job.future, error)
        else:
            self._loop_call(_fulfil, job.future, outcome)

    def _transact(self, change: Callable[[Connection], Any]) -> Any:
        try:
            self._connection()
            assert self._engine is not None
            with self._engine.begin() as conn:
                return change(conn)
        except sqlalchemy.exc.IntegrityError as error:
            raise IllegalOperation(str(error.orig)) from error
        except (sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError) as error:
            raise IllegalOperation(str(error.orig)) from error
        except (sqlalchemy.exc.DBAPIError, sqlite3.Error) as error:
            raise LedgerUnavailable(f"the database cannot commit: {getattr(error, 'orig', error)}") from error

    def _connection(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = open_writer(self._path)
            self._engine = writing_engine(self._conn)
        return self._conn

    def _disconnect(self, *, checkpoint: bool) -> None:
        conn, self._conn, self._engine = self._conn, None, None
        if conn is None:
            return
        try:
            if checkpoint:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # The log is replayed at the next start.
        finally:
            conn.close()

    def _loop_call(self, function: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has gone, and with it all who waited
            self._loop.call_soon_threadsafe(function, *args)


def _fulfil(future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
