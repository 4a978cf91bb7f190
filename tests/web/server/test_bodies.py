"""Request bodies: sizes, chunks, 100-continue, and what becomes of a body nobody reads."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.raw_http import PATIENCE, connect, eventually
from tests.web.server.probe import Probe

from tollway.web.body import READ_AHEAD
from tollway.web.writer import writer_of


def post(path: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (path, headers, body)


def sized(path: bytes, body: bytes) -> bytes:
    return post(path, b"Content-Length: %d\r\n" % len(body), body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"


async def test_a_body_over_the_server_limit_is_refused_before_it_is_sent(serving):
    probe = Probe()
    async with serving(probe, body_max=1000) as server, connect(server.port) as raw:
        await raw.send(post(b"/v1/chat/completions", b"Content-Length: 1001\r\n"))
        answer = await raw.response()
        assert answer.status == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert answer.json()["error"]["limit"] == {
            "name": "body",
            "used": 1001,
            "max": 1000,
            "resets_at": None,
        }
        assert await raw.rest() == b""
    assert probe.begun == []


async def test_an_upload_that_goes_on_after_its_refusal_still_gets_it(serving):
    async with serving(Probe(), body_max=1000) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", b"Content-Length: 50000000\r\n"))
        for _ in range(100):
            await raw.send(b"x" * 65536)
        assert (await raw.response()).status == 413


async def test_a_body_that_filled_the_buffer_before_it_was_read_does_not_stop_the_connection(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        # The last byte is the one that holds the input back, so nothing of this body asks for more.
        await raw.send(sized(b"/late", b"x" * (READ_AHEAD + 1)))
        await eventually(lambda: probe.begun and next(iter(server.connections)).incoming is None)
        probe.release.set()
        assert (await raw.response()).body == b"%d" % (READ_AHEAD + 1)
        await raw.send(sized(b"/echo", b"next"))
        assert (await raw.response()).body == b"next"


async def test_a_body_that_filled_the_buffer_and_is_never_read_does_not_stop_the_connection(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(sized(b"/hang", b"x" * (READ_AHEAD + 1)))
        await eventually(lambda: probe.begun and next(iter(server.connections)).incoming is None)
        probe.release.set()
        assert (await raw.response()).body == b"released"
        await raw.send(sized(b"/echo", b"next"))
        assert (await raw.response()).body == b"next"


@pytest.mark.parametrize("path", [b"/small", b"/echo"])
async def test_chunks_are_counted_to_the_limit(serving, path):
    async with serving(Probe(), body_max=100) as server, connect(server.port) as raw:
        await raw.send(post(path, CHUNKED, b"64\r\n" + b"x" * 100 + b"\r\n1\r\nx\r\n"))
        answer = await raw.response()
        assert answer.status == 413
        assert answer.header("connection") == "close"
        assert await raw.rest() == b""


@pytest.mark.parametrize("headers", [b"Content-Length: 9\r\n", CHUNKED])
async def test_a_route_may_take_less_than_the_server(serving, headers):
    body = b"9\r\n123456789\r\n0\r\n\r\n" if headers == CHUNKED else b"123456789"
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/small", headers, body))
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["limit"]["max"]) == (413, 8)


@pytest.mark.parametrize(
    "chunks",
    [
        b"g\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n",
        b"1" + b"0" * 18 + b"\r\nabc",
        b"ffffffffffffffffff\r\nabc",
        b"3\r\nabc\r\n0\r\nBad Trailer: x\r\n\r\n",
        b"3\r\nabc\r\n0\r\n" + b"T: x\r\n" * 101 + b"\r\n",
    ],
)
async def test_bad_chunks_are_refused_and_what_follows_is_not_a_request(serving, chunks):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(post(b"/v1/echo", CHUNKED, chunks + post(b"/path/smuggled")))
        answer = await raw.response()
        assert 400 <= answer.status < 500
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert await raw.rest() == b""
    assert probe.begun == ["/v1/echo"]


async def test_chunk_extensions_without_end_are_cut_off(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", CHUNKED, b"1"))
        for _ in range(40):
            await raw.send(b";" + b"x" * 40_000)
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_chunks_of_one_byte_are_a_body(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", CHUNKED))
        for _ in range(10):
            await raw.send(b"1\r\nx\r\n" * 2000)
        await raw.send(b"0\r\n\r\n")
        assert (await raw.response()).body == b"x" * 20_000


async def test_continue_is_said_when_the_body_is_wanted_and_not_before(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
        assert (await raw.response()).status == 100
        await raw.send(b"abc")
        assert (await raw.response()).body == b"abc"
        await raw.send(post(b"/unread", b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
        answer = await raw.response()
        assert (answer.status, answer.header("connection")) == (401, "close")


async def test_continue_then_nothing_ends_at_the_deadline(serving):
    async with serving(Probe(), body_timeout=0.1) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
        assert (await raw.response()).status == 100
        assert (await raw.response()).status == 408
        assert await raw.rest() == b""


async def test_get_with_a_body_is_safe(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        body = post(b"/path/smuggled")
        await raw.send(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await raw.send(b"GET /path/next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await raw.response()).json() == {"status": "ok"}
        assert (await raw.response()).body == b"/path/next"
    assert probe.begun == ["/livez", "/path/next"]


async def test_an_answer_that_does_not_wait_for_the_body_closes_the_connection(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/unread", b"Content-Length: 1000000\r\n"))
        answer = await raw.response()
        assert (answer.status, answer.header("connection")) == (401, "close")
        assert await raw.rest() == b""


async def test_a_body_nobody_asked_for_is_not_read_ahead(serving):
    """A handler that has not let its caller in holds back the sender, not the memory."""
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        raw.writer.write(post(b"/hang", b"Content-Length: 30000000\r\n") + b"x" * 30_000_000)
        await eventually(lambda: probe.begun == ["/hang"])
        (connection,) = server.connections
        await eventually(lambda: not connection._reading)
        assert connection.incoming.body.received < 2_000_000
        probe.release.set()
        assert (await raw.response()).status == 200
        await raw.send(
            b""
        )  # The rest of the upload is taken and thrown away, so that the answer is not lost.


async def test_a_large_body_is_read_whole(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        body = bytes(range(256)) * 4000
        raw.writer.write(sized(b"/echo", body))
        assert (await raw.response()).body == body


async def test_upgrades_are_ignored_with_and_without_a_body(serving):
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(post(b"/echo", upgrade + b"Content-Length: 3\r\n", b"abc"))
        assert (await raw.response()).body == b"abc"
        await raw.send(post(b"/echo", upgrade + CHUNKED, b"2\r\nde\r\n"))
        await raw.send(b"1\r\nf\r\n0\r\n\r\n")
        assert (await raw.response()).body == b"def"
        await raw.send(post(b"/echo", upgrade) * 3 + sized(b"/echo", b"ghi"))
        assert [(await raw.response()).body for _ in range(4)] == [b"", b"", b"", b"ghi"]


async def test_reading_a_body_that_is_cut_off_tells_the_reader(serving):
    """A reader in a task of its own is not cancelled with the handler; it must not wait for ever."""
    told = asyncio.get_running_loop().create_future()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await Probe()(scope, receive, send)
            return

        async def read():
            try:
                await writer_of(scope).read_body(100)
            except Exception as error:
                told.set_result(type(error).__name__)

        app.reading = asyncio.create_task(read())
        await asyncio.Event().wait()

    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(post(b"/x", b"Content-Length: 10\r\n", b"abc"))
        await eventually(lambda: server.tasks)
        raw.reset()
        async with asyncio.timeout(PATIENCE):
            assert await told == "ClientGone"


async def test_the_time_our_handler_takes_is_not_counted_against_the_client(serving):
    probe = Probe()
    async with serving(probe, body_timeout=0.05, header_timeout=0.05) as server, connect(server.port) as raw:
        raw.writer.write(post(b"/late", b"Content-Length: 3000000\r\n") + b"x" * 3_000_000)
        await eventually(lambda: probe.begun == ["/late"])
        for _ in range(3):
            async with connect(server.port) as clock:
                assert await clock.rest() == b""  # It lives for one header deadline, as long as ours.
        probe.release.set()
        assert (await raw.response()).body == b"3000000"


async def test_http_1_0_is_never_told_to_continue(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        await eventually(lambda: server.tasks)
        await raw.send(b"abc")
        assert (await raw.response()).body == b"abc"


async def test_a_body_is_not_read_after_the_answer(serving):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await Probe()(scope, receive, send)
            return
        writer = writer_of(scope)
        writer.respond(200, b"", b"")
        try:
            await writer.read_body(100)
        except ConnectionError as error:
            seen.append(type(error).__name__)

    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(sized(b"/x", b"abc"))
        assert (await raw.response()).status == 200
    assert seen == ["ClientGone"]


async def test_many_large_bodies_share_one_limit_until_their_calls_are_over(serving):
    """Each of many clients may be within its own limit; together they must not take all memory."""
    size, probe = READ_AHEAD * 4, Probe()
    head = post(b"/late", b"Content-Length: %d\r\n" % size)
    async with serving(probe, bodies_max=2 * size) as server:
        async with connect(server.port) as one, connect(server.port) as two, connect(server.port) as three:
            probe.release.set()
            # Their last bytes are missing, so both are being read.
            await one.send(head + b"x" * (size - 1))
            await two.send(head + b"x" * (size - 1))
            await eventually(lambda: server.shared.body_bytes == 2 * (size - 1))
            await three.send(head + b"x" * size)
            refused = await three.response()
            assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
            assert refused.header("retry-after") == "1"
            await one.send(b"x")
            assert (await one.response()).body == b"%d" % size
        await eventually(lambda: server.shared.body_bytes == 0)
        async with connect(server.port) as four:
            await four.send(head + b"x" * size)
            assert (await four.response()).body == b"%d" % size
            await four.send(sized(b"/echo", b"small"))
            assert (await four.response()).body == b"small"
        await eventually(lambda: server.shared.body_bytes == 0)
