"""The ledger's own connection to PostgreSQL: one task gathers batches and commits them.

When the connection breaks, nobody knows whether the last statement was committed; its operations
are run again by the same ids, with care, before their callers hear anything. While the database
is away holds are refused at once and settlements wait. A hold that a database which hangs keeps
waiting is refused before its outcome is known, and released should it turn out to have been made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from tollway.store import careful
from tollway.store.base import Balance, HoldRequest, InsufficientFunds, LedgerUnavailable
from tollway.store.pending import BACKLOG_MAX, BATCH_MAX, OpenHolds, Pending, Void
from tollway.store.postgres import batch, lifeline

CONNECT_SECONDS: Final = 1.0
STATEMENT_SECONDS: Final = 2.0
"""A commit that takes longer counts as failed, which is ambiguous."""
HOLD_SECONDS: Final = 0.75
"""How long a caller waits for a hold before it is refused, whatever becomes of the commit."""
RETRY_SECONDS: Final = 0.25
FAREWELL_TRIES: Final = 8
CHANNEL: Final = "tollway"

_TOO_LONG: Final = "the database takes too long to commit"

T = TypeVar("T")
Careful = Callable[[Pending], Awaitable[Any]]

_AWAY: Final = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InternalClientError,
)
"""What is raised when the database failed rather than refused; deadlocks among it."""


class PostgresLedger:
    """Owns the connection and the task. `carefully` runs one odd operation on another connection."""

    def __init__(self, url: str, owner: str, carefully: Careful, heard: Callable[[], None]) -> None:
        self._url = url
        self._owner = owner
        self._carefully = carefully
        self._heard = heard
        self._queue: deque[Pending] = deque()
        self._backlog: list[Pending] = []
        self._known = OpenHolds()
        self._wake = asyncio.Event()
        self._closing = False
        self._stuck = False
        """Whether the batch under way has taken so long that its holds were refused."""
        self._given_up: set[Pending] = set()
        """Holds that were refused to their callers and are still on their way."""
        self._conn: Any = None
        self._task = asyncio.create_task(self._run())

    def submit(self, one: Pending) -> None:
        """Queue an operation; its future is resolved after the commit.

        Raises LedgerUnavailable when closing, and for a hold behind a commit that hangs.
        """
        if self._closing:
            raise LedgerUnavailable("the store is closing")
        if self._stuck and isinstance(one.request, HoldRequest):
            raise LedgerUnavailable(_TOO_LONG)
        self._queue.append(one)
        self._wake.set()

    @property
    def prompt(self) -> bool:
        """Whether nothing is known to be wrong with the database."""
        return not (self._closing or self._stuck or self._backlog)

    async def close(self) -> None:
        """Finish what is queued, as far as the database lets us."""
        self._closing = True
        self._wake.set()
        await self._task
        if self._conn is not None:
            with suppress(*_AWAY):
                await self._conn.close(timeout=CONNECT_SECONDS)

    async def _run(self) -> None:
        tries = 0
        while not (self._closing and not self._queue and (not self._backlog or tries >= FAREWELL_TRIES)):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._waiting(), RETRY_SECONDS if self._backlog else None)
            tries += self._closing
            gathered = self._backlog
            self._backlog = []
            while self._queue and len(gathered) < BATCH_MAX:
                one = self._queue.popleft()
                if one in self._given_up:
                    self._given_up.discard(one)  # never sent
                else:
                    gathered.append(one)
            await self._commit(gathered)
        for one in self._backlog:
            one.answer = LedgerUnavailable("the database could not commit before the end")
            one.resolve()

    async def _waiting(self) -> None:
        while not self._queue and not (self._closing and not self._backlog):
            self._wake.clear()
            await self._wake.wait()

    async def _commit(self, gathered: list[Pending]) -> None:
        patience = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._give_up, gathered)
        try:
            await self._carry_out(gathered)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave callers waiting for ever
            for one in gathered:
                one.answer = one.answer or LedgerUnavailable(f"the ledger failed: {error!r}")
        finally:
            patience.cancel()
            self._stuck = False
        answered = [one for one in gathered if one.answer is not None]
        self._known.learn(answered)
        for one in answered:
            one.resolve()
        if self._given_up:
            self._release_given_up(answered)

    def _give_up(self, gathered: list[Pending]) -> None:
        """Refuse the holds of a commit that takes too long, and those that wait behind it."""
        self._stuck = True
        under_way = [one for one in gathered if one.answer is None]
        for one in (*under_way, *self._queue):
            future = one.future
            if isinstance(one.request, HoldRequest) and future is not None and not future.done():
                future.set_exception(LedgerUnavailable(_TOO_LONG))
                self._given_up.add(one)

    def _release_given_up(self, answered: list[Pending]) -> None:
        """Give back what was held after its caller had been refused."""
        for one in answered:
            if one in self._given_up:
                self._given_up.discard(one)
                if isinstance(one.answer, Balance) and isinstance(one.request, HoldRequest):
                    self._keep(Pending(Void(one.request.id, one.request.created_at), None))

    async def _carry_out(self, gathered: list[Pending]) -> None:
        """Do a batch, once more by the same ids if the database failed, and refuse it if it failed again."""
        for last in (False, True):
            left = [one for one in gathered if one.answer is None]
            try:
                await self._attempt(left)
            except _AWAY as error:
                self._drop()
                if last or isinstance(error, ConnectionRefusedError):
                    self._refuse(left, error)
                    return
            except LedgerUnavailable as error:
                if last:
                    self._refuse(left, error)
                    return
            else:
                return

    async def _attempt(self, gathered: list[Pending]) -> None:
        plan = self._known.plan(gathered)
        plain = plan.settles + plan.holds
        odd = plan.careful
        if plain:
            conn = await self._connection()
            for one in plain:
                one.doubtful = True
            odd = await self._plain(conn, plain) + odd
        for one in odd:
            await self._odd(one)

    async def _plain(self, conn: Any, plain: list[Pending]) -> list[Pending]:
        try:
            return self._sure(await _within(batch.run(conn, self._owner, plain, self._known)))
        except _AWAY:
            raise
        except Exception:  # noqa: BLE001 - a row was refused: find out which, one by one
            odd: list[Pending] = []
            for one in plain:
                odd += await self._alone(conn, one)
            return odd

    async def _alone(self, conn: Any, one: Pending) -> list[Pending]:
        try:
            return self._sure(await _within(batch.run(conn, self._owner, [one], self._known)))
        except _AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - what it means is found out with care
            if isinstance(one.request, HoldRequest) and careful.NO_OVERSPEND in str(error):
                one.answer = await self._no_funds(conn, one.request, str(error))
                return []
            return self._sure([one])

    async def _no_funds(self, conn: Any, request: HoldRequest, cause: str) -> Exception:
        bounds = (request.wallet, request.budget, request.project_budget)
        accounts = [account for account in bounds if account is not None]
        found = await _within(batch.balances(conn, accounts))
        refusal = careful.refusal(cause, request, found.__getitem__)
        assert isinstance(refusal, InsufficientFunds)
        return refusal

    @staticmethod
    def _sure(odd: list[Pending]) -> list[Pending]:
        """The database has answered, so these were not done by us just now."""
        for one in odd:
            one.doubtful = False
        return odd

    async def _odd(self, one: Pending) -> None:
        try:
            one.answer = await _within(self._carefully(one))
        except TimeoutError:
            one.doubtful = True
            raise LedgerUnavailable(_TOO_LONG) from None
        except LedgerUnavailable:
            one.doubtful = True
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            one.answer = error

    def _refuse(self, left: list[Pending], cause: Exception) -> None:
        """Fail holds closed; keep what settles for the next try, as far as there is room."""
        for one in left:
            request = one.request
            if one.answer is not None:
                continue
            if isinstance(request, HoldRequest):
                one.answer = LedgerUnavailable(f"the database cannot commit: {cause!r}")
                if one.doubtful:
                    self._keep(Pending(Void(request.id, request.created_at), None))
            elif not self._keep(one):
                one.answer = LedgerUnavailable("too many settlements wait for the database")

    def _keep(self, one: Pending) -> bool:
        if len(self._backlog) >= BACKLOG_MAX:
            return False
        self._backlog.append(one)
        return True

    async def _connection(self) -> Any:
        if self._conn is None or self._conn.is_closed():
            self._conn = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, server_settings={"application_name": "tollway-ledger"}
            )
            lifeline.attach(self._conn)
            await _within(self._conn.add_listener(CHANNEL, lambda *_: self._heard()))
        return self._conn

    async def connect(self) -> None:
        """Connect now, so that changes are heard of before the first operation. Raises what asyncpg raises."""
        await self._connection()

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.terminate()


async def _within(work: Awaitable[T]) -> T:
    """The outcome of something asked of the database. Raises TimeoutError when that hangs."""
    async with asyncio.timeout(STATEMENT_SECONDS):
        return await work
