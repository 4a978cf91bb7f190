"""The end of a server: what was begun is finished or told, nothing new is taken, and the exit code is 0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

import pytest
from tests.support.raw_http import PATIENCE, connect, eventually, exchange
from tests.web.server.probe import Probe

from tollway.web.limits import Limits
from tollway.web.listen import listen
from tollway.web.server import Server
from tollway.web.shared import Shared
from tollway.web.writer import DRAINING


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


async def test_open_answers_finish_and_nothing_new_is_taken(serving):
    probe = Probe()
    async with (
        serving(probe, drain_timeout=60.0) as server,
        connect(server.port) as streaming,
        connect(server.port) as waiting,
        connect(server.port) as idle,
    ):
        await streaming.send(get("/stream"))
        assert (await streaming.head())[0] == 200
        await waiting.send(get("/hang") + get("/path/queued"))
        await idle.send(get("/livez"))
        await idle.response()
        await eventually(lambda: len(probe.begun) == 3)
        server.server.begin_drain()
        assert await idle.rest() == b""
        with pytest.raises(OSError):
            async with connect(server.port):
                pass
        probe.release.set()
        assert await streaming.rest() == b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"
        assert (await waiting.response()).body == b"released"
        last = await waiting.response()
        assert (last.body, last.header("connection")) == (b"/path/queued", "close")
        assert await waiting.rest() == b""


async def test_answers_in_the_grace_period_send_their_clients_away(serving):
    probe = Probe()
    async with serving(probe, accept_grace=60.0, hurry_timeout=0.0) as server, connect(server.port) as raw:
        await raw.send(get("/livez"))
        await raw.response()
        server.server.begin_drain()
        await eventually(lambda: server.shared.draining)
        await raw.send(get("/livez"))
        answer = await raw.response()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert (await exchange(server.port, get("/livez"))).header("connection") == "close"


async def test_what_does_not_finish_is_told_to_end_itself(serving, caplog):
    probe = Probe()
    async with (
        serving(probe, drain_timeout=0.1) as server,
        connect(server.port) as careful,
        connect(server.port) as careless,
    ):
        await careful.send(get("/careful"))
        await careless.send(get("/stream"))
        await eventually(lambda: len(probe.begun) == 2)
        server.server.begin_drain()
        assert (await careful.response()).body == b"firsterror: draining"
        assert not (await careless.response()).complete
    assert ("/careful", "draining") in probe.ended
    assert ("/stream", "draining") in probe.ended


async def test_a_call_without_an_answer_yet_gets_a_refusal(serving):
    probe = Probe()
    async with serving(probe, drain_timeout=0.05) as server, connect(server.port) as raw:
        await raw.send(get("/hang"))
        await eventually(lambda: probe.begun)
        server.server.begin_drain()
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")
        assert answer.header("retry-after") == "1"
        assert await raw.rest() == b""


async def test_a_second_signal_hurries(serving):
    probe = Probe()
    async with (
        serving(probe, drain_timeout=3600.0, hurry_timeout=0.05) as server,
        connect(server.port) as raw,
    ):
        await raw.send(get("/hang"))
        await eventually(lambda: probe.begun)
        server.server.begin_drain()
        await eventually(lambda: not server.server.servers[0].is_serving())
        assert not probe.ended
        server.server.begin_drain()
        assert (await raw.response()).status == 503


async def test_five_hundred_streams_are_finished(serving):
    probe = Probe()
    async with serving(probe, drain_timeout=60.0) as server:
        raws = []
        for _ in range(500):
            context = connect(server.port)
            raw = await context.__aenter__()
            raws.append((context, raw))
            raw.writer.write(get("/stream"))
        await eventually(lambda: len(probe.begun) == 500)
        server.server.begin_drain()
        await eventually(lambda: server.shared.draining)
        probe.release.set()
        for context, raw in raws:
            answer = await raw.response()
            assert (answer.body, answer.complete) == (b"firstlast", True)
            await context.__aexit__(None, None, None)
    assert probe.tally == {("/stream", "done"): 500}


async def test_the_app_lives_and_ends_with_the_server(serving):
    probe = Probe()
    async with serving(probe):
        assert probe.lifespan == ["lifespan.startup"]
    assert probe.lifespan == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_handler_that_will_not_stop_does_not_hold_up_the_end(caplog):
    """Neither does an app that does not end; both are said in the log."""
    probe, free = Probe(), asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await free.wait()
            return
        probe.begun.append(scope["path"])
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    limits = Limits(accept_grace=0.0, drain_timeout=0.0, settle_timeout=0.05)
    server = Server(app, Shared(limits))
    sockets = listen("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets))
    async with connect(port) as raw:
        await raw.send(get("/stubborn"))
        await eventually(lambda: probe.begun)
        server.begin_drain()
        assert await raw.rest() == b""
    async with asyncio.timeout(PATIENCE):
        await serving
    said = [record.getMessage() for record in caplog.records]
    assert said == ["1 calls had not settled when the drain ended", "the app did not shut down in time"]
    free.set()
    await eventually(lambda: not server.server_state.tasks)


async def test_an_app_that_cannot_start_ends_the_server(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = Server(app, Shared(Limits()))
    async with asyncio.timeout(PATIENCE):
        await server.serve(listen("127.0.0.1", 0))
    assert server.exit_code == 1
    assert "no database" in caplog.text


SCRIPT = """
import asyncio, sys, uvloop
from tollway.config import Settings
from tollway.web.listen import listen
from tollway.web.server import serve
from tests.web.server.probe import Probe

def drained():
    print("draining", flush=True)

def ready(host, port):
    print("ready", port, flush=True)

settings = Settings(port=0, drain_timeout=60.0, accept_grace=0.0)
serving = serve(Probe(), settings, listen("127.0.0.1", 0), on_ready=ready, on_drain=drained)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print("exit", runner.run(serving), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_a_process_that_prints_nothing_itself(number):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        SCRIPT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE * 3):
        word, port = (await process.stdout.readline()).split()
        assert word == b"ready"
        async with connect(int(port)) as raw:
            await raw.send(get("/echo"))
            assert (await raw.response()).status == 200
            await raw.send(get("/stream"))
            assert (await raw.head())[0] == 200
            process.send_signal(number)
            assert await process.stdout.readline() == b"draining\n"
            raw.close()
            out, err = await process.communicate()
    assert (out, err, process.returncode) == (b"exit 0\n", b"", 0)


async def test_handlers_that_fail_are_logged_once(serving, caplog):
    with caplog.at_level(logging.DEBUG, "tollway"):
        async with serving(Probe()) as server:
            assert (await exchange(server.port, get("/boom"))).status == 500
    assert [record.getMessage() for record in caplog.records] == ["the handler of /boom failed"]


async def test_a_handler_that_is_cancelled_by_others_is_a_500(serving, caplog):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/hang"))
        await eventually(lambda: probe.begun)
        next(iter(server.tasks)).cancel("somebody else")
        assert (await raw.response()).status == 500
    assert "was cancelled" in caplog.text


@pytest.mark.parametrize(
    ("reason", "status", "code"), [(None, 500, "internal_error"), (DRAINING, 503, "draining")]
)
async def test_a_request_whose_handler_is_cancelled_before_it_begins_is_refused(
    serving, reason, status, code
):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/livez"))
        await raw.response()
        (connection,) = server.connections
        connection.data_received(get("/hang"))
        next(iter(server.tasks)).cancel(reason)
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (status, code)
        assert await raw.rest() == b""
    assert probe.begun == ["/livez"]
