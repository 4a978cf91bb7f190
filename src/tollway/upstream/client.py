"""The upstream HTTP/1.1 client: the Transport that flows send requests with.

    client.py      a request: its pool, its deadlines, its one retry
    pool.py        the connections of one origin        dial.py   opening one
    connection.py  one connection, one exchange         answer.py the response being read
    wire.py        request heads written, response heads judged
    outbox.py      requests of one turn of the loop, written in a row

It relays: it follows no redirect, decodes no body, keeps no cookie and reads no proxy from the
environment. A request is written a second time in one case only: a connection kept from an earlier
exchange ended without a byte of response, at once, and the request may be replayed.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from tollway.upstream import wire
from tollway.upstream.answer import Answer
from tollway.upstream.connection import Connection
from tollway.upstream.dial import Dialler, default_tls
from tollway.upstream.outbox import Outbox
from tollway.upstream.pool import Pool, PoolStats
from tollway.upstream.transport import Origin, UpstreamFault, UpstreamRequest

CONNECTIONS_MAX: Final = 1000
"""Connections per origin; requests beyond it wait their turn."""
KEEP: Final = 55.0
"""Seconds an idle connection is kept: less than the 60 s after which common servers close theirs."""
_POOLS_MAX: Final = 1024
"""Origins remembered before those without connections are forgotten."""


class Client:
    """A Transport over pooled connections. Used from one event loop; `tls` replaces the system's trust."""

    def __init__(
        self, *, connections_max: int = CONNECTIONS_MAX, keep: float = KEEP, tls: ssl.SSLContext | None = None
    ) -> None:
        self._connections_max = connections_max
        self._keep = keep
        self._tls = tls
        self._pools: dict[Origin, Pool] = {}
        self._outbox = Outbox()
        self._connecting: set[asyncio.Timeout] = set()
        self._closed = False

    async def send(self, request: UpstreamRequest) -> Answer:
        """Returns when the response head is here. Raises UpstreamFault, or ValueError before anything is written."""
        pool = self._pools.get(request.origin) or self._pool(request.origin)
        head = request.head or wire.request_head(request, pool.shared)
        now = pool.now()
        total_at = now + request.deadlines.total
        connection = pool.take(now) if request.replayable else None
        if connection is None:
            connection = await self._connection(pool, request, total_at, fresh=not request.replayable)
            now = pool.now()
        answer = connection.begin(request, head, now, total_at)
        try:
            # Not `answer.head()`: a coroutine in between would be made, and run through, for each request.
            while not answer.status:
                await answer.change()
        except UpstreamFault:
            if not connection.stale:
                raise
            return await self._send_again(request, head, total_at)
        except BaseException:
            answer.close()
            raise
        return answer

    async def close(self) -> None:
        """Cut every connection, those being opened too. Requests in flight fail with kind `closed`, later ones as well."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for scope in list(self._connecting):
            scope.reschedule(now)
        for pool in list(self._pools.values()):
            pool.cut()
        # Transports report their end on the next turn of the loop.
        await asyncio.sleep(0)

    def stats(self) -> dict[Origin, PoolStats]:
        """What is open, per origin; an origin without connections and waiters is left out."""
        return {origin: pool.stats() for origin, pool in self._pools.items() if not pool.empty}

    async def _send_again(self, request: UpstreamRequest, head: bytes, total_at: float) -> Answer:
        """Once more, on a connection that cannot be stale. The first writing may have been seen."""
        pool = self._pool(request.origin)
        try:
            connection = await self._connection(pool, request, total_at, fresh=True)
        except UpstreamFault as fault:
            raise UpstreamFault(fault.kind, fault.message, sent=True) from fault
        answer = connection.begin(request, head, pool.now(), total_at)
        await answer.head()
        return answer

    async def _connection(
        self, pool: Pool, request: UpstreamRequest, total_at: float, *, fresh: bool
    ) -> Connection:
        deadlines = request.deadlines
        until = min(asyncio.get_running_loop().time() + deadlines.connect, total_at)
        try:
            async with asyncio.timeout_at(until) as scope:
                self._connecting.add(scope)
                self._refuse_if_closed()
                connection = await pool.acquire(until, fresh=fresh)
                if self._closed:
                    connection.abort()
                self._refuse_if_closed()
                return connection
        except TimeoutError:
            self._refuse_if_closed()
            if until == total_at:
                raise UpstreamFault(
                    "total_timeout", f"not connected after {deadlines.total:g} s", sent=False
                ) from None
            raise UpstreamFault(
                "connect_timeout",
                f"no connection to {request.origin.host} within {deadlines.connect:g} s",
                sent=False,
            ) from None
        finally:
            self._connecting.discard(scope)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UpstreamFault("closed", "the gateway has closed its connections", sent=False)

    def _pool(self, origin: Origin) -> Pool:
        """The pool of an origin, made if need be. It may be dropped only while empty, so it must be used before the next await."""
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= _POOLS_MAX:
                self._pools = {known: one for known, one in self._pools.items() if not one.empty}
            shared = wire.host_lines(origin)
            loop = asyncio.get_running_loop()
            dialler = Dialler(origin, self._context)
            pool = Pool(
                dialler, loop, self._outbox, shared=shared, limit=self._connections_max, keep=self._keep
            )
            self._pools[origin] = pool
        return pool

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = default_tls()
        return self._tls
