"""How answers look on the wire, by the writer and by ASGI's send, to every kind of client."""

from __future__ import annotations

import gc
import logging

import pytest
from tests.support.raw_http import connect, eventually, exchange
from tests.web.server.conftest import Sharing, running
from tests.web.server.probe import Probe

from tollway.core.errors import GatewayError
from tollway.web.cycle import Cycle
from tollway.web.writer import header_block, writer_of


class App:
    """Answers with one function of the writer, or of scope, receive and send."""

    def __init__(self, by_writer=None, by_asgi=None):
        self.by_writer = by_writer
        self.by_asgi = by_asgi
        self.lifespan = Probe()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
        elif self.by_writer:
            await self.by_writer(writer_of(scope))
        else:
            await self.by_asgi(scope, receive, send)


def get(version: bytes = b"1.1", method: bytes = b"GET", headers: bytes = b"") -> bytes:
    return b"%b / HTTP/%b\r\nHost: a\r\n%b\r\n" % (method, version, headers)


async def whole(writer):
    writer.respond(200, b"x-a: 1\r\n", b"hello")


async def streamed(writer):
    writer.start(200, b"x-a: 1\r\n")
    writer.write(b"hel")
    writer.write(b"")
    await writer.drain()
    writer.end(b"lo")


async def streamed_without_a_last(writer):
    writer.start(200, b"")
    writer.write(b"hello")
    writer.end()


async def framed(writer):
    """Pieces with their framing, where the answer is one in chunks."""
    assert not writer.chunked
    writer.start(200, b"x-a: 1\r\n")
    if writer.chunked:
        assert writer.write_framed(b"3\r\nhel\r\n") is writer.congested is False
    else:
        writer.write(b"hel")
    writer.end(b"lo")
    assert not writer.chunked
    # Too late: nothing may follow the end.
    writer.write_framed(b"3\r\nhel\r\n")


async def asgi_whole(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"5"), (b"X-A", b"1")]}
    )
    await send({"type": "http.response.body", "body": b"hello"})


async def asgi_measured_in_pieces(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hel", "more_body": True})
    await send({"type": "http.response.body", "body": b"lo"})


async def asgi_streamed(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hel", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    await send({"type": "http.response.body", "body": b"lo"})


ANSWERS = {
    "respond": (App(by_writer=whole), "length"),
    "start, write, end": (App(by_writer=streamed), "chunked"),
    "start, write, end()": (App(by_writer=streamed_without_a_last), "chunked"),
    "start, write_framed, end": (App(by_writer=framed), "chunked"),
    "ASGI whole": (App(by_asgi=asgi_whole), "length"),
    "ASGI measured": (App(by_asgi=asgi_measured_in_pieces), "length"),
    "ASGI streamed": (App(by_asgi=asgi_streamed), "chunked"),
}
answers = pytest.mark.parametrize(("app", "framing"), ANSWERS.values(), ids=ANSWERS.keys())


@answers
async def test_answers_are_framed_and_the_connection_goes_on(serving, app, framing):
    async with serving(app) as server, connect(server.port) as raw:
        for _ in range(3):
            await raw.send(get())
            answer = await raw.response()
            assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)
            assert (answer.header("content-length") == "5") is (framing == "length")
            assert (answer.header("transfer-encoding") == "chunked") is (framing == "chunked")
            assert answer.header("connection") is None
            assert answer.header("date").endswith("GMT")


@answers
async def test_head_gets_the_head_only(serving, app, framing):
    async with serving(app) as server, connect(server.port) as raw:
        for _ in range(2):
            await raw.send(get(method=b"HEAD"))
            assert (await raw.response(head_only=True)).status == 200
        await raw.send(get(headers=b"Connection: close\r\n"))
        assert (await raw.response()).body == b"hello"
        assert await raw.rest() == b""


@answers
@pytest.mark.parametrize("headers", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_gets_no_chunks_and_no_second_request(serving, app, framing, headers):
    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(get(version=b"1.0", headers=headers) + get())
        answer = await raw.response()
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.header("transfer-encoding") is None
        assert answer.header("connection") == "close"
        assert await raw.rest() == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(serving, status):
    async def answer(writer):
        writer.respond(status, b"", b"")

    async def stream(writer):
        writer.start(status, b"")
        writer.write(b"ignored")
        writer.end()

    for app in (App(by_writer=answer), App(by_writer=stream)):
        async with serving(app) as server, connect(server.port) as raw:
            for _ in range(2):
                await raw.send(get())
                found = await raw.response()
                assert found.status == status
                assert found.header("content-length") is None
                assert found.header("transfer-encoding") is None


async def test_a_large_answer_arrives_whole(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len((await raw.response()).body) == 16 << 20


async def boom(writer):
    raise ValueError("sk-secret-in-a-traceback")


async def silent(writer):
    """Nothing is answered."""


async def asgi_without_body(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})


async def asgi_split(scope, receive, send):
    headers = [(b"x-a", b"1\r\nset-cookie: a=b")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def asgi_body_first(scope, receive, send):
    await send({"type": "http.response.body", "body": b""})


async def bad_status(writer):
    writer.respond(99, b"", b"")


FAILING = {
    "raises": App(by_writer=boom),
    "returns without an answer": App(by_writer=silent),
    "starts without a body": App(by_asgi=asgi_without_body),
    "splits a header": App(by_asgi=asgi_split),
    "sends a body first": App(by_asgi=asgi_body_first),
    "answers 99": App(by_writer=bad_status),
}


@pytest.mark.parametrize("app", FAILING.values(), ids=FAILING.keys())
async def test_a_failing_handler_is_a_logged_500_in_json(serving, caplog, app):
    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await raw.response()
        assert answer.status == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert answer.json()["error"]["type"] == "server_error"
        assert answer.header("x-request-id")
        assert b"secret" not in answer.body
        assert await raw.rest() == b""
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_app_that_fails_before_there_is_a_handler_is_a_logged_500(serving, caplog):
    lifespan = Probe()

    def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return lifespan(scope, receive, send)
        raise ValueError("at once")

    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await raw.response()).json()["error"]["code"] == "internal_error"
        assert await raw.rest() == b""
        assert server.shared.calls == 0
    assert "at once" in caplog.text


class Hopeless(Sharing):
    """Cannot even answer for a handler that failed."""

    def failed(self, cycle, error):
        raise KeyError("the answer")


async def test_a_failure_that_cannot_be_answered_for_is_a_logged_500(caplog):
    async with running(Hopeless(App(by_writer=boom))) as server:
        answer = await exchange(server.port, get())
        assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "the answer" in caplog.text and "sk-secret-in-a-traceback" in caplog.text


class Keeping(Sharing):
    """Makes of a request something that knows its cycle, as the gateway's app does."""

    def begin(self, cycle):
        cycle.request = {"writer": cycle}
        return super().begin(cycle)


async def refuses(writer):
    raise GatewayError("bad_request", "no")


def cycles() -> set[int]:
    return {id(one) for one in gc.get_objects() if type(one) is Cycle}


@pytest.mark.parametrize("answer", [whole, refuses])
async def test_nothing_of_a_request_waits_for_the_collector(answer):
    async with running(Keeping(App(by_writer=answer))) as server:
        gc.collect()
        gc.disable()
        try:
            before = cycles()  # Of other tests, whose log records hold them.
            for _ in range(5):
                await exchange(server.port, get())
            await eventually(lambda: not server.tasks)
            assert cycles() <= before
        finally:
            gc.enable()


async def breaks_off(writer):
    writer.start(200, b"")
    writer.write(b"part")
    raise ValueError("midway")


async def stops(writer):
    writer.start(200, b"")
    writer.write(b"part")


async def aborts(writer):
    writer.start(200, b"")
    writer.write(b"part")
    writer.abort()
    writer.write(b"ignored")
    writer.end()


async def asgi_short(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"part"})


async def asgi_long(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await send({"type": "http.response.body", "body": b"ial"})


BROKEN = {
    "raises": App(by_writer=breaks_off),
    "returns": App(by_writer=stops),
    "aborts": App(by_writer=aborts),
    "ASGI short": App(by_asgi=asgi_short),
    "ASGI long": App(by_asgi=asgi_long),
}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("app", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_cannot_be_taken_for_a_whole_one(serving, app, version):
    async with serving(app) as server, connect(server.port) as raw:
        await raw.send(get(version=version))
        try:
            answer = await raw.response()
        except (EOFError, ConnectionResetError):
            return  # An abort may take the head with it.
        assert not answer.complete
        await eventually(lambda: not server.connections)


async def test_misuse_is_told(serving):
    told = []

    async def app(writer):
        for misuse in (lambda: writer.write(b"x"), writer.end):
            with pytest.raises(RuntimeError):
                misuse()
        writer.respond(200, b"", b"fine")
        for misuse in (lambda: writer.respond(200, b"", b""), lambda: writer.start(200, b"")):
            with pytest.raises(RuntimeError):
                misuse()
        writer.end()
        told.append(writer.started)

    async with serving(App(by_writer=app)) as server:
        assert (await exchange(server.port, get())).body == b"fine"
    assert told == [True]


async def test_asgi_reads_a_body_in_pieces_and_then_waits_for_the_end(serving):
    seen = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            seen.append((message["type"], message.get("body")))
            if not message.get("more_body"):
                break
        await asgi_whole(scope, receive, send)
        seen.append(((await receive())["type"], None))

    async with serving(App(by_asgi=app)) as server, connect(server.port) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await eventually(lambda: seen)
        await raw.send(b"def")
        assert (await raw.response()).body == b"hello"
        await eventually(lambda: len(seen) == 3)
    assert seen == [("http.request", b"abc"), ("http.request", b"def"), ("http.disconnect", None)]


async def test_asgi_errors_of_the_body_reach_the_client(serving):
    async def app(scope, receive, send):
        await receive()
        await receive()
        raise AssertionError("the body never comes")

    async with serving(App(by_asgi=app), body_timeout=0.1) as server, connect(server.port) as raw:
        await raw.send(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")


def test_header_blocks():
    assert header_block([(b"x-a", b"1"), (b"x-b", b"\xff")]) == b"x-a: 1\r\nx-b: \xff\r\n"
    for bad in [(b"x a", b"1"), (b"", b"1"), (b"x", b"1\r\ny: 2"), (b"x", b"\x00"), (b"x:", b"1")]:
        with pytest.raises(ValueError):
            header_block([bad])
