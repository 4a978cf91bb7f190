"""A sandbox server on a thread of its own, on asyncio's loop and on uvloop, and forgotten between tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop
from tests.upstream.sandbox.raw import Sandbox, get

from tollway.upstream.sandbox.server import SandboxServer

Loop = Callable[[], asyncio.AbstractEventLoop]


def _serve(new_loop: Loop, ready: threading.Event, found: list[object]) -> None:
    async def main() -> None:
        server = SandboxServer()
        await server.start()
        stop = asyncio.Event()
        found.extend([server.port, asyncio.get_running_loop(), stop])
        ready.set()
        await stop.wait()
        await server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.fixture(
    scope="session", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def server(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    ready = threading.Event()
    found: list[object] = []
    thread = threading.Thread(target=_serve, args=(request.param, ready, found), daemon=True)
    thread.start()
    assert ready.wait(10)
    port, loop, stop = found
    yield Sandbox(port)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def sandbox(server: Sandbox) -> Sandbox:
    """A server that remembers nothing."""
    assert server.fetch(get("/sandbox/reset", "POST")).json() == {"reset": True}
    return server
