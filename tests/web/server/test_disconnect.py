"""A client that leaves, however it leaves and whenever: its handler is cancelled at once."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.support.raw_http import Raw, connect, eventually
from tests.web.server.probe import Probe

WAYS = {"FIN": Raw.close, "RST": Raw.reset, "half-close": Raw.half_close}

STAGES = {
    "before the response": "GET {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "reading the body": "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
    "with a pipeline": "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"
    + "GET /path/queued HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
}


CASES = [(path, stage) for path in ("/hang", "/stream") for stage in STAGES.values()]
CASES.append(("/echo", STAGES["reading the body"]))


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(("path", "stage"), CASES)
async def test_the_handler_is_cancelled_and_nothing_is_logged(serving, caplog, leave, path, stage):
    probe = Probe()
    with caplog.at_level(logging.DEBUG, "tollway"):
        async with serving(probe) as server, connect(server.port) as raw:
            await raw.send(stage.format(path).encode())
            if path == "/stream":
                assert (await raw.head())[0] == 200
                assert await raw.chunk() == b"first"
            await eventually(lambda: probe.begun == [path])
            leave(raw)
            await eventually(lambda: probe.ended == [(path, "client gone")])
            await eventually(lambda: not server.tasks and not server.connections)
            assert server.shared.calls == 0
        assert probe.begun == [path]
    assert not caplog.records


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS.keys())
async def test_a_handler_may_take_its_time_to_settle(serving, leave):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(b"GET /slow_settle HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: probe.begun)
        leave(raw)
        await eventually(lambda: len(probe.ended) == 2)
        assert probe.ended == [("/slow_settle", "settled"), ("/slow_settle", "client gone")]


async def test_a_handler_that_has_answered_is_left_alone(serving):
    settled = asyncio.Event()
    gone = asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await Probe()(scope, receive, send)
            return
        scope["extensions"]["tollway"].respond(200, b"", b"")
        await gone.wait()
        settled.set()

    async with serving(app) as server:
        async with connect(server.port) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await raw.response()).status == 200
        await eventually(lambda: not server.connections)
        gone.set()
        await eventually(settled.is_set)


@pytest.mark.parametrize("leave", [Raw.close, Raw.reset])
async def test_an_unread_body_does_not_hide_that_its_sender_left(serving, leave):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(
            b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n" + b"x" * 1_000_000
        )
        assert (await raw.head())[0] == 200
        assert await raw.chunk() == b"first"
        leave(raw)
        await eventually(lambda: probe.ended == [("/stream", "client gone")])


async def test_many_leave_at_once_and_nothing_is_left_behind(serving):
    probe = Probe()
    async with serving(probe) as server:
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(_leave(server.port))
        await eventually(lambda: not server.tasks and not server.connections)
        assert probe.tally["/hang", "client gone"] == probe.begun.count("/hang") == 200
        async with connect(server.port) as raw:
            for _ in range(20):
                await raw.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await raw.response()).status == 200


async def _leave(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        # The answer to a health check on another connection tells that ours has been read.
        async with connect(port) as other:
            await other.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            await other.response()
        raw.reset()
