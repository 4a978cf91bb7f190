"""Looks for keys in the database, with one query for all that are wanted meanwhile.

After a start, and after every change of keys, each key is read anew when it is next used. Where
thousands are in use at a time, a query for each would take longer than their callers may wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from tollway.core.access.keys import Key
from tollway.store.base import LedgerUnavailable

PATIENCE_S: Final = 0.9
"""How long a caller waits for a database that hangs to find its key."""
TOGETHER: Final = 500
"""Digests in one query at most."""

Found = dict[bytes, Key]
Ask = Callable[[Sequence[bytes]], Awaitable[Found]]
"""Asks the database for the keys of these digests; those it has none for are left out. Raises StoreError."""


class _Look:
    """One query, to come or under way. `waiting`: how many wait for it; without any it is not made, or ended."""

    __slots__ = ("answer", "digests", "task", "waiting")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.digests: dict[bytes, None] = {}
        self.task: asyncio.Future[Found] | None = None
        self.waiting = 0


class Lookups:
    """Finds keys by the digests of their secrets. One query is under way at a time; the next gathers behind it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._open: dict[bytes, _Look] = {}
        """By digest, the looks that whoever asks now may join."""
        self._next: deque[_Look] = deque()
        self._running: _Look | None = None

    def forget(self) -> None:
        """Something changed: whoever asks from now on must see it, which a look under way may not."""
        self._open.clear()

    async def find(self, digest: bytes) -> Key | None:
        """The key with this digest. Raises StoreError."""
        look = self._open.get(digest)
        if look is None:
            look = self._open[digest] = self._gather(digest)
        look.waiting += 1
        try:
            # Not `timeout`: a connection to a database that hangs takes seconds to be given up.
            await asyncio.wait((look.answer,), timeout=PATIENCE_S)
            if not look.answer.done():
                self._pass_by(look)
                raise LedgerUnavailable("the database takes too long to find a key")
            return look.answer.result().get(digest)
        finally:
            look.waiting -= 1
            if self._open.get(digest) is look:
                del self._open[digest]
            if not (look.waiting or look.answer.done()):
                self._drop(look)

    def _gather(self, digest: bytes) -> _Look:
        if not self._next or len(self._next[-1].digests) >= TOGETHER:
            self._next.append(_Look())
            # Not at once: others may come in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._begin)
        look = self._next[-1]
        look.digests[digest] = None
        return look

    def _begin(self) -> None:
        if self._running is None and self._next:
            self._running = look = self._next.popleft()
            look.task = asyncio.ensure_future(self._ask(tuple(look.digests)))
            look.task.add_done_callback(partial(self._answered, look))

    def _answered(self, look: _Look, task: asyncio.Future[Found]) -> None:
        error = None if task.cancelled() else task.exception()
        if not look.answer.done():
            if error is not None:
                look.answer.set_exception(error)
                # Seen: whoever waited may have left in this very turn.
                look.answer.exception()
            elif task.cancelled():
                look.answer.cancel()
            else:
                look.answer.set_result(task.result())
        self._end(look)

    def _pass_by(self, look: _Look) -> None:
        """Do not let a query that hangs keep others from trying anew."""
        for digest in look.digests:
            if self._open.get(digest) is look:
                del self._open[digest]
        self._end(look)

    def _drop(self, look: _Look) -> None:
        """Nobody waits for it any more."""
        look.answer.cancel()
        if look.task is not None:
            look.task.cancel()
        elif look in self._next:
            self._next.remove(look)

    def _end(self, look: _Look) -> None:
        if self._running is look:
            self._running = None
            self._begin()
