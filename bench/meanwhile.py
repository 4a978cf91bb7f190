"""What calls feel of background work: how long it keeps the writer, and how long holds and settlements take meanwhile."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from tests.support.ledger import hold_of, settlement_of

from tollway.store.sqlite.store import SqliteStore


def share(took: Sequence[float], part: float) -> float:
    """The value that this part of the values does not exceed (nearest rank); 0 for none."""
    return sorted(took)[max(0, math.ceil(part * len(took)) - 1)] if took else 0.0


def line(name: str, took: Sequence[float]) -> str:
    """One row of the table: how many there were and how long they took, from seconds to milliseconds."""
    median, most, worst = (share(took, part) * 1000 for part in (0.5, 0.99, 1.0))
    return f"{name:44}{len(took):>9}{median:>10.2f}{most:>10.2f}{worst:>10.2f}"


HEADING = f"{'':44}{'count':>9}{'median ms':>10}{'p99 ms':>10}{'worst ms':>10}"


class Watched:
    """Times every change a store's writer makes, from its BEGIN to the end of its COMMIT, while it is entered."""

    def __init__(self, store: SqliteStore) -> None:
        self._writer: Any = store._writer
        self.took: list[float] = []

    def __enter__(self) -> Watched:
        change = self._writer._change

        def timed(job: Any) -> None:
            began = time.perf_counter()
            change(job)
            self.took.append(time.perf_counter() - began)

        self._writer._change = timed
        return self

    def __exit__(self, *_: object) -> None:
        del self._writer._change


class Calls:
    """Holds and settles at an even rate while it is entered; `took` has the seconds of each pair."""

    def __init__(self, store: SqliteStore, wallet: int, rate: float, now: int) -> None:
        self._store = store
        self._wallet = wallet
        self._rate = rate
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self.took: list[float] = []

    async def __aenter__(self) -> Calls:
        self._task = asyncio.create_task(self._go())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _go(self) -> None:
        """Calls begin when they are due, however long those before them take."""
        begun: set[asyncio.Task[None]] = set()
        due = time.perf_counter()
        try:
            while True:
                one = asyncio.create_task(self._one(due))
                begun.add(one)
                one.add_done_callback(begun.discard)
                due += 1 / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
        finally:
            await asyncio.gather(*begun, return_exceptions=True)

    async def _one(self, due: float) -> None:
        request = hold_of(self._wallet, 100, created_at=self._now)
        await self._store.ledger.hold(request)
        settlement = settlement_of(request.id, 10, created_at=self._now, finished_at=self._now)
        await self._store.ledger.settle(settlement)
        self.took.append(time.perf_counter() - due)
