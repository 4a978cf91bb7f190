"""More clients than we serve: told so at once, before their bodies, while health checks still pass."""

from __future__ import annotations

import contextlib

from tests.support.raw_http import connect, eventually, exchange
from tests.web.server.probe import Probe

UPLOAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
HANG = b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"


def shed(answer):
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert answer.header("retry-after") == "1"
    assert answer.header("connection") == "close"
    return True


async def test_calls_beyond_the_cap_are_shed_before_their_bodies(serving):
    probe = Probe()
    async with (
        serving(probe, calls_max=2) as server,
        connect(server.port) as first,
        connect(server.port) as second,
    ):
        await first.send(HANG)
        await second.send(HANG)
        await eventually(lambda: server.shared.calls == 2)
        assert shed(await exchange(server.port, UPLOAD))
        assert (await exchange(server.port, LIVE)).status == 200
        probe.release.set()
        assert (await first.response()).status == 200
        assert (await second.response()).status == 200
        await eventually(lambda: server.shared.calls == 0)
        await second.send(HANG)
        assert (await second.response()).status == 200


async def test_connections_beyond_the_cap_are_shed(serving):
    async with serving(Probe(), connections_max=2) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(connect(server.port))
        await eventually(lambda: len(server.connections) == 2)
        assert shed(await exchange(server.port, UPLOAD))
        assert (await exchange(server.port, LIVE)).status == 200


async def test_connections_far_beyond_the_cap_are_not_even_read(serving):
    async with serving(Probe(), connections_max=0) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(256):
            await stack.enter_async_context(connect(server.port))
        await eventually(lambda: len(server.connections) == 256)
        assert shed(await exchange(server.port, b""))
