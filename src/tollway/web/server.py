"""Running the HTTP server: listening, the clock of its deadlines, and the drain that ends it.

SIGTERM or SIGINT    on_drain is called (readiness fails); after `accept_grace` (SIGINT: at once)
                     nothing more is accepted and idle connections close; answers being given may finish
drain_timeout        handlers still running are cancelled with writer.DRAINING, so that they can
                     end their streams with an error and settle
settle_timeout       what is left is cut; the app's lifespan ends; the exit code is 0
a second signal      leaves `hurry_timeout` of the drain
SIGHUP               with TLS: the certificate is read again; it is also looked at every few seconds
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn.lifespan.on import LifespanOn

from tollway.config import Settings
from tollway.web.asgi import App
from tollway.web.limits import Limits, from_settings
from tollway.web.listen import BACKLOG
from tollway.web.protocol import protocol_class
from tollway.web.shared import HEALTH_PATHS, Shared
from tollway.web.tls import LOOK_EVERY, Certificate, Door
from tollway.web.writer import DRAINING

STARTUP_FAILED: Final = 1
_POLL: Final = 0.05
_DESCRIPTORS: Final = 1 << 18

OnReady = Callable[[str, int], None]
OnDrain = Callable[[], None]


async def serve(
    app: App,
    settings: Settings,
    sockets: list[socket.socket],
    *,
    exempt: frozenset[str] = frozenset(),
    on_ready: OnReady | None = None,
    on_drain: OnDrain | None = None,
) -> int:
    """Serve on listening sockets until a signal ends it; returns the exit code.

    `exempt`: paths that are answered even when calls are shed. `on_ready` is told the host and the
    port that was bound, once requests are answered; `on_drain` is called when the end begins. Both
    run on the event loop and must not block. Raises BadCertificate.
    """
    _raise_descriptor_limit()
    shared = Shared(from_settings(settings), exempt=HEALTH_PATHS | exempt)
    tls = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    server = Server(app, shared, tls=tls, on_ready=on_ready, on_drain=on_drain)
    await server.serve(sockets)
    return server.exit_code


class Server(uvicorn.Server):
    """uvicorn's server with our protocol, our deadlines and our drain. `await serve(sockets)` runs it."""

    def __init__(
        self,
        app: App,
        shared: Shared,
        *,
        tls: Certificate | None = None,
        on_ready: OnReady | None = None,
        on_drain: OnDrain | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                cast("Any", app),
                http=protocol_class(shared),
                ws="none",
                interface="asgi3",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                workers=1,
            )
        )
        self.exit_code = 0
        self._shared = shared
        self._limits: Limits = shared.limits
        self._tls = tls
        self._look_at = 0.0
        self._on_ready = on_ready
        self._on_drain = on_drain
        self._signals = 0
        self._patient = True
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None

    def begin_drain(self, *, patient: bool = True) -> None:
        """What a signal does: the first call begins the drain, a later one hurries it.

        An impatient one, of a person at a keyboard, gives no balancer time to notice.
        """
        self._signals += 1
        self._patient = self._patient and patient
        self._asked.set()
        if self._signals > 1:
            self._hurried.set()

    # uvicorn calls these in turn.

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {one: signal.getsignal(one) for one in handled}
        for one in handled:
            loop.add_signal_handler(one, partial(self.begin_drain, patient=one != signal.SIGINT))
        if self._tls is not None:
            loop.add_signal_handler(signal.SIGHUP, partial(self._tls.renew, changed_only=False))
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            for one in handled:
                loop.remove_signal_handler(one)
                signal.signal(one, before[one])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        lifespan = cast("LifespanOn", self.lifespan)
        await lifespan.startup()
        if lifespan.should_exit:
            self.should_exit = True
            self.exit_code = STARTUP_FAILED
            _close_all(sockets or ())
            return
        loop = asyncio.get_running_loop()
        self._tick()
        for sock in sockets or ():
            if self._tls is not None:
                self.servers.append(cast("Any", Door(sock, self._tls, self._connection, self._limits)))
            else:
                self.servers.append(await loop.create_server(self._connection, sock=sock, backlog=BACKLOG))
        self._ticker = loop.create_task(self._tick_on())
        self.started = True
        if self._on_ready is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._on_ready(host, port)

    async def main_loop(self) -> None:
        await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._shared.draining = True
        if self._on_drain is not None:
            try:
                self._on_drain()
            except Exception:
                self._shared.log.exception("the drain was not announced")
        with contextlib.suppress(TimeoutError):
            grace = self._limits.accept_grace if self._patient else 0
            await asyncio.wait_for(self._hurried.wait(), grace)
        for server in self.servers:
            server.close()
        _close_all(sockets or ())
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        await self._until_quiet(loop.time() + self._limits.drain_timeout, may_hurry=True)
        for task in tuple(self.server_state.tasks):
            task.cancel(DRAINING)
        await self._until_quiet(loop.time() + self._limits.settle_timeout, may_hurry=False)
        self._cut_the_rest()
        await self._end_lifespan()
        if self._ticker is not None:
            self._ticker.cancel()

    def _connection(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(self.config, self.server_state, self.lifespan.state)

    def _tick(self) -> None:
        connections = cast("set[Any]", self.server_state.connections)
        now = asyncio.get_running_loop().time()
        self._shared.tick(connections, now, time.time())
        if self._tls is not None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._tls.renew()

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(self._limits.tick)
            try:
                self._tick()
            except Exception:
                # Deadlines must go on for the others, whatever one connection's did.
                self._shared.log.exception("a deadline could not be acted on")

    async def _until_quiet(self, deadline: float, *, may_hurry: bool) -> None:
        loop = asyncio.get_running_loop()
        hurried = False
        while self.server_state.tasks or self.server_state.connections:
            now = loop.time()
            if may_hurry and self._hurried.is_set() and not hurried:
                hurried = True
                deadline = min(deadline, now + self._limits.hurry_timeout)
            if now >= deadline:
                return
            await asyncio.sleep(min(_POLL, deadline - now))

    def _cut_the_rest(self) -> None:
        tasks, connections = self.server_state.tasks, self.server_state.connections
        if tasks:
            self._shared.log.error("%d calls had not settled when the drain ended", len(tasks))
        for connection in tuple(connections):
            connection.transport.abort()

    async def _end_lifespan(self) -> None:
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), self._limits.settle_timeout)
        except TimeoutError:
            self._shared.log.error("the app did not shut down in time")


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _raise_descriptor_limit() -> None:
    """Every client is a descriptor and so is every upstream; the usual soft limit of 1024 serves 500."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
