"""The connections of one origin: reuse the newest idle one, open up to a limit, queue beyond it.

Places are handed over, never raced for: whoever gives up a connection or a place gives it to the
longest waiting request, and a waiter that was cancelled in that moment passes it on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from tollway.upstream.connection import Connection
from tollway.upstream.dial import Dialler
from tollway.upstream.outbox import Outbox
from tollway.upstream.recall import Heads
from tollway.upstream.transport import UpstreamFault


class PoolStats(Struct, frozen=True, kw_only=True):
    """Connections of one origin. `open` counts places taken, those being opened too; `in_use` is `open` less `idle`."""

    open: int
    idle: int
    in_use: int
    waiting: int


class Pool:
    """Connections to one origin. `shared`: head lines of its requests. `keep`: seconds an idle connection is kept.

    `now` is the loop's clock.
    """

    __slots__ = (
        "_connections",
        "_dialler",
        "_idle",
        "_limit",
        "_loop",
        "_opening",
        "_waiters",
        "heads",
        "keep",
        "now",
        "outbox",
        "shared",
    )

    def __init__(
        self,
        dialler: Dialler,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        *,
        shared: bytes,
        limit: int,
        keep: float,
    ) -> None:
        self.shared = shared
        self.outbox = outbox
        self.keep = keep
        self.heads = Heads()
        self.now: Callable[[], float] = loop.time
        self._dialler = dialler
        self._loop = loop
        self._limit = limit
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def empty(self) -> bool:
        """Whether nothing is open, being opened or waited for."""
        return not (self._connections or self._opening or self._waiters)

    def stats(self) -> PoolStats:
        """What is open now."""
        taken = len(self._connections) + self._opening
        idle = len(self._idle)
        return PoolStats(open=taken, idle=idle, in_use=taken - idle, waiting=len(self._waiters))

    def take(self, now: float) -> Connection | None:
        """The idle connection used last, or None, at loop time `now`. Idle connections exist only while nobody waits."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.trusted(now):
                return connection
            connection.abort()
        return None

    async def acquire(self, until: float, *, fresh: bool) -> Connection:
        """A connection to begin an exchange on, newly opened if `fresh`, by loop time `until`.

        Raises UpstreamFault when none can be opened, TimeoutError when none becomes free in time.
        """
        while True:
            connection = None if fresh else self.take(self.now())
            if connection is None:
                connection = await self._place(until, fresh=fresh)
            if connection is None:
                return await self._open(until)
            if fresh:
                return await self._replace(connection, until)
            if connection.alive:
                return connection

    def released(self, connection: Connection) -> None:
        """A connection has become free: the first waiter's, or idle."""
        if self._waiters and (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone, and its place is free."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._pass_place_on()

    def cut(self) -> None:
        """Cut every connection at once."""
        for connection in list(self._connections):
            connection.cut("closed", "the gateway closed its connections")

    async def _place(self, until: float, *, fresh: bool) -> Connection | None:
        """A place to open a connection in (None), or a connection that became free meanwhile."""
        if (
            not self._waiters
            and len(self._connections) + self._opening >= self._limit
            and fresh
            and self._idle
        ):
            # The oldest idle connection makes room for the new one.
            self._idle.pop(0).abort()
        if not self._waiters and len(self._connections) + self._opening < self._limit:
            self._opening += 1
            return None
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    async def _replace(self, connection: Connection, until: float) -> Connection:
        """Open a connection in the place of another, which nobody may take in between."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._opening += 1
            connection.abort()
            return await self._open(until)
        return await self.acquire(until, fresh=True)

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            self._opening -= 1
            self._pass_place_on()
        elif connection.alive:
            self.released(connection)
        else:
            connection.abort()

    async def _open(self, until: float) -> Connection:
        try:
            connection = await self._dialler.connect(lambda: Connection(self._loop, self), until)
            if not connection.alive:
                raise UpstreamFault(
                    "connect", "the upstream closed the connection as soon as it was open", sent=False
                )
        except BaseException:
            self._opening -= 1
            self._pass_place_on()
            raise
        self._opening -= 1
        self._connections.add(connection)
        return connection

    def _pass_place_on(self) -> None:
        """A place has become free: the first waiter's, if there is one."""
        if len(self._connections) + self._opening < self._limit:
            waiter = self._next_waiter()
            if waiter is not None:
                self._opening += 1
                waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None
