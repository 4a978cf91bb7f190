"""The one who writes: ledger batches first, then changes, one after the other, on one connection.

There is no timer: while one batch commits the next one gathers. When the database cannot commit,
holds are refused and settlements are kept and tried again, because what they settle has happened.

The event loop and a thread take turns with the connection. A plain batch is *staged* on the loop,
where its few statements cost no change of threads and no fight for the interpreter's lock; its
COMMIT, which waits for the disk, is left to the thread, unless the disk has been so quick of late
that changing threads would hold up the loop as long as the disk does. All that may take its time
(changes, operations that need care, writing the log back, a database that fails or is locked) is
done by the thread alone. Whose turn it is says `_busy`, which only the loop reads and writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Final

import sqlalchemy.exc
from sqlalchemy import Connection, Engine

from tollway.store import careful
from tollway.store.base import HoldRequest, IllegalOperation, LedgerUnavailable
from tollway.store.pending import BACKLOG_MAX, BATCH_MAX, OpenHolds, Pending, Void, resolve
from tollway.store.sqlite import ledger
from tollway.store.sqlite.connect import (
    BUSY_MS,
    LOG_PAGES,
    open_writer,
    patience,
    write_back,
    writing_engine,
)

RETRY_SECONDS: Final = 0.25
REOPEN_AFTER: Final = 20
LONG_SECONDS: Final = 0.75
"""How long a commit may take before nothing more is promised on the strength of those that will come after it."""
QUICK_SECONDS: Final = 0.0005
"""How long commits may take of late, on average, to be made on the event loop."""
GATHER_TURNS: Final = 4
"""How many turns of the loop a batch gathers at most; a turn of a busy loop takes a few milliseconds."""
HERE_MAX: Final = 64
"""How many commits in a row are made there, before the thread gets a turn to write the log back."""
FAREWELL_TRIES: Final = 8
"""How often `close` tries to commit what is left."""


class Job:
    """A change to run in a transaction of its own; what it returns or raises goes to `future`."""

    __slots__ = ("change", "future")

    def __init__(self, change: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        self.change = change
        self.future = future


class Staged:
    """A batch whose transaction waits for its COMMIT. `plain`: those answered in it, if it succeeds."""

    __slots__ = ("batch", "failed", "odd", "plain")

    def __init__(self, batch: list[Pending], plain: list[Pending], *, odd: bool) -> None:
        self.batch = batch
        self.plain = plain
        self.odd = odd
        """Whether some of the batch need care afterwards."""
        self.failed = False
        """Whether the COMMIT failed on the event loop."""


class Pace:
    """How long commits take of late. A new process believes nothing: its first ones are made by the thread."""

    __slots__ = ("_mean",)

    def __init__(self) -> None:
        self._mean = 1.0

    def took(self, seconds: float) -> None:
        self._mean += (seconds - self._mean) / 8

    @property
    def quick(self) -> bool:
        return self._mean < QUICK_SECONDS


class Writer:
    """Owns the connection and the thread. `submit`, `job` and `close` are called on the event loop."""

    def __init__(self, path: Path, owner: str, make_room: Callable[[BaseException], object]) -> None:
        self._path = path
        self._make_room = make_room
        """Told of every failure of the database before what failed is tried again."""
        self._owner = owner
        self._inbox: SimpleQueue[Staged | tuple[list[Pending], list[Job]] | None] = SimpleQueue()
        self._outbox: list[Pending] = []
        self._jobs: list[Job] = []
        self._backlog: list[Pending] = []
        self._busy = self._called = self._closing = False
        self._sick = False
        self._failures = 0
        self._since = 0.0
        """When the thread was last given its turn."""
        self._pace = Pace()
        self._here = 0
        """Commits made on the event loop since the thread's last turn."""
        self._gathered = self._waited = self._lately = 0
        """Ledger operations there were at the last turn, turns they have waited, and operations of the last batch."""
        self._known = OpenHolds()
        self._conn: sqlite3.Connection | None = None
        self._engine: Engine | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tollway-writer", daemon=True)
        self._thread.start()

    # -- on the event loop ---------------------------------------------------------------------

    def submit(self, one: Pending) -> None:
        """Queue a ledger operation; its future is resolved after the commit.

        What is submitted in one turn of the loop goes in one piece: callers woken together by one
        commit make one batch again.
        """
        self._refuse_when_closing()
        self._outbox.append(one)
        self._call()

    def job(self, change: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """Queue a change; the future has its outcome after the commit."""
        self._refuse_when_closing()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.append(Job(change, future))
        self._call()
        return future

    @property
    def prompt(self) -> bool:
        """Whether nothing is known to be wrong with the database, and no commit takes long."""
        if self._closing or self._sick or self._backlog:
            return False
        return not self._busy or self._loop.time() - self._since < LONG_SECONDS

    async def close(self) -> None:
        """Finish what is queued, as far as the database lets us, and end the thread."""
        self._closing = True
        self._call()
        await self._loop.run_in_executor(None, self._thread.join)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise LedgerUnavailable("the store is closing")

    def _call(self) -> None:
        if not (self._called or self._busy):
            self._called = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Take what has gathered, unless the thread has its turn; it calls again when that is over."""
        self._called = False
        if self._busy:
            return
        if self._gathers():
            self._call()
            return
        batch, jobs = self._outbox, self._jobs
        self._outbox, self._jobs = batch[BATCH_MAX:], []
        del batch[BATCH_MAX:]
        if batch or jobs or (self._backlog and not self._closing):
            self._busy = True
            self._since = self._loop.time()
            staged = self._stage(batch, jobs)
            if staged is not None and self._committed_here(staged):
                self._done(batch, retry=False)
            else:
                self._inbox.put(staged or (batch, jobs))
        elif self._closing:
            self._busy = True
            self._inbox.put(None)

    def _gathers(self) -> bool:
        """Whether to wait for another turn of the loop: while each brings more, unless callers come one by one."""
        found = len(self._outbox)
        if (
            self._gathered < found < BATCH_MAX
            and self._waited < GATHER_TURNS
            and not (self._jobs or self._closing or found == self._lately == 1)
        ):
            self._gathered = found
            self._waited += 1
            return True
        self._gathered, self._waited, self._lately = 0, 0, found
        return False

    def _stage(self, batch: list[Pending], jobs: list[Job]) -> Staged | None:
        """Stage a batch of plain operations; None if all is for the thread."""
        if jobs or self._backlog or self._sick or self._conn is None:
            return None
        try:
            plan = self._known.plan(batch)
            plain = plan.settles + plan.holds
            if not plain:
                return None
            odd = ledger.stage(self._conn, self._owner, plan, self._known)
        except Exception:  # noqa: BLE001 - whatever it is, nothing was committed, and callers wait
            # The thread finds out whether it is a lock, a fault of the disk or one of ours.
            for one in batch:
                one.answer = None
            return None
        return Staged(batch, plain, odd=bool(odd))

    def _committed_here(self, staged: Staged) -> bool:
        """Commit a plain batch on the event loop, where commits are quick; otherwise it is for the thread."""
        conn = self._conn
        if conn is None or staged.odd or self._here == HERE_MAX or not self._pace.quick:
            return False
        try:
            if not self._here:
                write_back(conn, at=0)
            self._here += 1
            self._commit_now(conn)
        except sqlite3.Error:
            staged.failed = True
            return False
        self._known.learn(staged.batch)
        return True

    def _commit_now(self, conn: sqlite3.Connection) -> None:
        started = perf_counter()
        try:
            conn.execute("COMMIT")
        finally:
            # One that failed counts as well: the loop waited for it all the same.
            self._pace.took(perf_counter() - started)

    def _done(self, answered: list[Pending], *, retry: bool) -> None:
        self._busy = False
        resolve(answered)
        if self._outbox or self._jobs or self._closing:
            self._call()
        elif retry:
            self._loop.call_later(RETRY_SECONDS, self._call)

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._inbox.get()) is not None:
            self._take_over()
            if isinstance(item, Staged):
                answered = self._commit_staged(item)
            else:
                answered = self._work(*item)
            self._loop_call(partial(self._done, answered, retry=bool(self._backlog)))
        for _ in range(FAREWELL_TRIES):
            if not self._backlog:
                break
            threading.Event().wait(RETRY_SECONDS)
            self._loop_call(resolve, self._commit(self._backlog))
        self._give_up()
        self._disconnect(checkpoint=True)

    def _take_over(self) -> None:
        """Write the log back again, which the event loop does not wait for."""
        if self._here and self._conn is not None:
            with suppress(sqlite3.Error):
                write_back(self._conn, at=LOG_PAGES)
        self._here = 0

    def _work(self, batch: list[Pending], jobs: list[Job]) -> list[Pending]:
        """A batch from its beginning, then changes. Returns what has an answer now."""
        self._be_patient(BUSY_MS)
        batch = self._backlog + batch
        answered = self._commit(batch) if batch else []
        for job in jobs:
            self._change(job)
        self._be_patient(0)
        return answered

    def _be_patient(self, milliseconds: int) -> None:
        with suppress(sqlite3.Error):
            if self._conn is not None:
                patience(self._conn, milliseconds)

    def _commit_staged(self, staged: Staged) -> list[Pending]:
        """The COMMIT of a staged batch, and what needs care after it. Returns what has an answer now."""
        try:
            assert self._conn is not None
            if not staged.failed:
                self._commit_now(self._conn)
        except sqlite3.Error:
            staged.failed = True
        if staged.failed:
            self._failed(staged.plain)
            return self._commit(staged.batch)
        if staged.odd:
            self._known.learn(staged.plain)
            return self._commit(staged.batch)
        self._known.learn(staged.batch)
        return staged.batch

    def _commit(self, batch: list[Pending]) -> list[Pending]:
        """See to it that what can be answered is; what cannot is kept in the backlog."""
        self._backlog = []
        try:
            self._carry_out(batch)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave callers waiting for ever
            for one in batch:
                one.answer = one.answer or LedgerUnavailable(f"the ledger failed: {error!r}")
        answered = [one for one in batch if one.answer is not None]
        self._known.learn(answered)
        return answered

    def _carry_out(self, batch: list[Pending]) -> None:
        """Do a batch, once more by the same ids if the database failed, and refuse it if it failed again."""
        try:
            self._attempt(batch)
        except (sqlite3.Error, LedgerUnavailable) as error:
            self._make_room(error)
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
            self._make_room(error)
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
