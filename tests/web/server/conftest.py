"""A real server with a small app behind it, in the test's own loop, which is the one we ship with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from tests.support.raw_http import PATIENCE

from tollway.web.asgi import AsgiHandling
from tollway.web.limits import Limits
from tollway.web.listen import listen
from tollway.web.server import Server
from tollway.web.shared import Shared


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


class Running:
    """A server that is running, and its insides for tests that wait for them."""

    def __init__(self, server: Server, shared: Shared, port: int) -> None:
        self.server = server
        self.shared = shared
        self.port = port

    @property
    def connections(self) -> set:
        return self.server.server_state.connections

    @property
    def tasks(self) -> set:
        return self.server.server_state.tasks


@contextlib.asynccontextmanager
async def running(app, *, tls=None, **limits) -> AsyncIterator[Running]:
    quick = {"accept_grace": 0.0, "drain_timeout": 0.0, "settle_timeout": 2.0, "linger_timeout": 2.0}
    shared = Shared(Limits(**{**quick, **limits}))
    ready = asyncio.Event()
    server = Server(app, shared, tls=tls, on_ready=lambda _host, _port: ready.set())
    sockets = listen("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets))
    async with asyncio.timeout(PATIENCE):
        await ready.wait()
    try:
        yield Running(server, shared, port)
    finally:
        server.begin_drain()
        async with asyncio.timeout(PATIENCE):
            await serving
        assert not server.server_state.tasks


class Sharing(AsgiHandling):
    """Has an ASGI app for its handlers, and is run as the gateway is: by a Handling that shares scopes."""

    shares_scopes = True

    def __init__(self, app) -> None:
        super().__init__(app)
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        await self.app(scope, receive, send)

    def begin(self, cycle):
        shared = cycle.scope
        cycle.scope = {**shared, "headers": [*shared["headers"]], "state": {**shared["state"]}}
        handler = super().begin(cycle)
        cycle.scope = shared
        return handler


@pytest.fixture(params=["asgi", "sharing"])
def serving(request) -> Callable[..., contextlib.AbstractAsyncContextManager[Running]]:
    """`async with serving(app, tls=None, **limits) as server`: a Server on a free port, drained at the end."""
    if request.param == "asgi":
        return running
    return lambda app, **options: running(Sharing(app), **options)
