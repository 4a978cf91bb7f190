"""Where answers are put to be kept: those that come while one transaction runs go together in the next.

A transaction of its own for every answer would cost each a wait for the disk, one after another.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import Connection

from tollway.store import responses
from tollway.store.base import LedgerUnavailable, Store
from tollway.store.responses import NewResponse

BATCH_MAX: Final = 64
TRIES: Final = 3
RETRY_SECONDS: Final = 0.1

_Waiting = tuple[NewResponse, "asyncio.Future[None]"]


class Shelf:
    """One per process. Adding an answer twice adds it once, so an uncertain end is tried again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, row: NewResponse) -> None:
        """Returns once the answer is durable. Raises StoreError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        await done

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._add(batch)
        finally:
            self._task = None

    async def _add(self, batch: list[_Waiting]) -> None:
        try:
            await self._write([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            if len(batch) > 1 and not isinstance(error, LedgerUnavailable):
                # One of them is to blame, and the others shall not suffer for it.
                for one in batch:
                    await self._add([one])
                return
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
        else:
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _write(self, rows: list[NewResponse]) -> None:
        def add_all(conn: Connection) -> None:
            responses.add(conn, *rows)

        for left in reversed(range(TRIES)):
            try:
                await self._store.write(add_all)
            except LedgerUnavailable:
                if not left:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return
