"""Every wait for a client ends. Deadlines are tiny here; what is checked is how each one ends."""

from __future__ import annotations

import pytest
from tests.support.raw_http import connect, eventually
from tests.web.server.probe import Probe

GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"])
async def test_connecting_and_saying_nothing_is_closed(serving, sent):
    async with serving(Probe(), header_timeout=0.3) as server, connect(server.port) as raw:
        await raw.send(sent)
        assert await raw.rest() == b""
        await eventually(lambda: not server.connections)


@pytest.mark.parametrize("sent", [b"GE", b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: 1"])
async def test_half_a_head_is_refused(serving, sent):
    async with serving(Probe(), header_timeout=0.3) as server, connect(server.port) as raw:
        await raw.send(sent)
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert await raw.rest() == b""


async def test_bytes_that_trickle_in_do_not_extend_the_deadline_of_a_head(serving):
    async with serving(Probe(), header_timeout=0.2) as server, connect(server.port) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
        await eventually(lambda: server.connections)
        (connection,) = server.connections
        while not connection.deaf:
            before = connection._head_received
            await raw.send(b"a")
            await eventually(lambda before=before: connection._head_received > before or connection.deaf)
        assert (await raw.response()).status == 408


async def test_a_later_head_has_its_deadline_too(serving):
    async with (
        serving(Probe(), header_timeout=0.3, keep_alive_timeout=60) as server,
        connect(server.port) as raw,
    ):
        await raw.send(GET + b"GET /li")
        assert (await raw.response()).status == 200
        assert (await raw.response()).status == 408


async def test_an_idle_connection_is_closed_without_a_word(serving):
    async with serving(Probe(), keep_alive_timeout=0.1) as server, connect(server.port) as raw:
        await raw.send(GET)
        assert (await raw.response()).header("connection") is None
        assert await raw.rest() == b""


async def test_a_request_in_time_ends_the_idling(serving):
    async with (
        serving(Probe(), keep_alive_timeout=0.2, header_timeout=60) as server,
        connect(server.port) as raw,
    ):
        await raw.send(GET)
        await raw.response()
        (connection,) = server.connections
        idle_until = connection.deadline
        await raw.send(GET[:-2])
        await eventually(lambda: connection.deadline > idle_until)
        await raw.send(b"\r\n")
        assert (await raw.response()).status == 200


@pytest.mark.parametrize("sent", [b"", b"abc"])
async def test_a_body_that_does_not_come_is_given_up(serving, sent):
    async with serving(Probe(), body_timeout=0.1) as server, connect(server.port) as raw:
        await raw.send(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + sent)
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert answer.header("connection") == "close"
        assert await raw.rest() == b""


async def test_every_kib_of_a_body_buys_a_second(serving):
    """The test is the clock: at the end of the fixed part, 60 KiB have bought a minute."""
    async with serving(Probe(), body_timeout=600.0) as server, connect(server.port) as raw:
        await raw.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 61441\r\n\r\n" + b"x" * 61440)
        await eventually(lambda: server.connections)
        (connection,) = server.connections
        await eventually(
            lambda: connection.incoming is not None and connection.incoming.body.received == 61440
        )
        due = connection.deadline
        connection.expire(due)
        assert connection.deadline == due + 60
        await raw.send(b"x")
        assert (await raw.response()).status == 200


async def test_below_a_kib_a_second_a_body_is_too_slow(serving):
    async with serving(Probe(), body_timeout=600.0) as server, connect(server.port) as raw:
        await raw.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 61441\r\n\r\n" + b"x" * 1024)
        await eventually(lambda: server.connections)
        (connection,) = server.connections
        await eventually(
            lambda: connection.incoming is not None and connection.incoming.body.received == 1024
        )
        connection.expire(connection.deadline + 1.0)
        assert (await raw.response()).status == 408


async def test_a_handler_has_as_long_as_it_needs(serving):
    probe = Probe()
    quick = {"header_timeout": 0.04, "body_timeout": 0.04, "keep_alive_timeout": 0.04, "write_timeout": 0.04}
    async with serving(probe, **quick) as server, connect(server.port) as raw, connect(server.port) as other:
        await raw.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: probe.begun == ["/hang"])
        assert await other.rest() == b""  # A connection as old as ours has met all its deadlines.
        probe.release.set()
        assert (await raw.response()).body == b"released"


async def test_a_refused_client_that_does_not_leave_is_made_to(serving):
    async with serving(Probe(), linger_timeout=0.1) as server, connect(server.port) as raw:
        await raw.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await raw.response()).status == 400
        await eventually(lambda: not server.connections)
