"""Requests sent without waiting for answers: answered in order, within bounds."""

from __future__ import annotations

from tests.support.raw_http import connect, eventually
from tests.web.server.probe import Probe


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()


async def test_a_hundred_requests_are_answered_in_their_order(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(b"".join(get(f"/path/{number}") for number in range(100)))
        answers = [await raw.response() for _ in range(100)]
        assert [answer.body.decode() for answer in answers] == [f"/path/{number}" for number in range(100)]
        await raw.send(get("/path/after"))
        assert (await raw.response()).body == b"/path/after"


async def test_bodies_are_kept_apart(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        for number in range(50):
            body = b"%d" % number * 7
            raw.writer.write(
                b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        assert [(await raw.response()).body for _ in range(50)] == [
            b"%d" % number * 7 for number in range(50)
        ]


async def test_one_at_a_time(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/hang") + get("/path/second"))
        await eventually(lambda: server.connections and len(next(iter(server.connections)).waiting) == 1)
        assert probe.begun == ["/hang"]
        probe.release.set()
        assert (await raw.response()).body == b"released"
        assert (await raw.response()).body == b"/path/second"


async def test_a_bad_request_is_refused_after_the_answers_before_it(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/hang") + get("/path/second") + b"nonsense\r\n\r\n" + get("/path/never"))
        await eventually(lambda: server.connections and next(iter(server.connections)).deaf)
        probe.release.set()
        assert (await raw.response()).body == b"released"
        assert (await raw.response()).body == b"/path/second"
        assert (await raw.response()).status == 405
        assert await raw.rest() == b""
    assert "/path/never" not in probe.begun


async def test_nothing_after_connection_close_is_served(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/path/last", "Connection: close\r\n") + get("/path/never"))
        answer = await raw.response()
        assert (answer.body, answer.header("connection")) == (b"/path/last", "close")
        assert await raw.rest() == b""
    assert probe.begun == ["/path/last"]


async def test_more_than_the_server_lets_wait_is_refused_at_the_end(serving):
    async with serving(Probe(), pipeline_max=4) as server, connect(server.port) as raw:
        await raw.send(get("/path/x") * 50)
        statuses = [(await raw.response()).status for _ in range(6)]
        assert statuses == [200] * 5 + [400]
        assert await raw.rest() == b""


async def test_a_client_that_shouts_over_its_answer_is_cut_off(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get("/stream"))
        await raw.head()
        raw.writer.write(b"garbage" * 1_000_000)
        await eventually(lambda: probe.ended == [("/stream", "client gone")])
        raw.writer.transport.abort()
