"""The sandbox provider's server: an upstream of our own on a real socket, in this process or alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tollway.upstream.sandbox.connection import Connection
from tollway.upstream.sandbox.service import Service

_BACKLOG: Final = 1024


class SandboxServer:
    """Serves the sandbox's models over HTTP/1.1.

    `clock`: Unix seconds for `created`; without it every answer's time is invented from its request,
    so that the same request gets the same bytes. `inspect`: whether GET /sandbox/stats and
    /sandbox/last and POST /sandbox/reset are served. `account`: servers with different ones do not
    accept each other's signatures, as two accounts at a provider.
    """

    def __init__(
        self, *, clock: Callable[[], float] | None = None, inspect: bool = True, account: str = ""
    ) -> None:
        self._service = Service(clock, inspect=inspect, account=account)
        self._connections: set[Connection] = set()
        self._closing = False
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Future[None] | None = None
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; with port 0 the system chooses, see `port`. Raises OSError if the address is taken."""
        self._closing = False
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, host, port, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, cut all connections and wait until they are gone."""
        if self._server is None:
            return
        self._closing = True
        self._server.close()
        if self._connections:
            self._emptied = asyncio.get_running_loop().create_future()
            for connection in tuple(self._connections):
                connection.abort()
            await self._emptied
        await self._server.wait_closed()
        self._server = None

    def _connect(self) -> Connection:
        return Connection(self._service, self._opened, self._lost)

    def _opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._closing:
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


async def run(host: str, port: int, *, started: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled. `started` is told the port once it is open. Prints nothing."""
    server = SandboxServer()
    await server.start(host, port)
    try:
        if started is not None:
            started(server.port)
        await asyncio.Event().wait()
    finally:
        await server.close()
