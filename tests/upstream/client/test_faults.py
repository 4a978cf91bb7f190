"""Every way an exchange breaks: which kind it is, whether the upstream may have seen the request, in bounded time."""

import asyncio
import contextlib
import math
import socket

import pytest
from tests.support.servers import eventually, serve, unused_port, whole

from tollway.upstream.connection import HELD_MAX
from tollway.upstream.dial import Dialler, _interleave, default_tls
from tollway.upstream.transport import Deadlines, Origin, UpstreamFault, UpstreamRequest

TINY = 0.04


async def whole_answer(client, request):
    response = await client.send(request)
    try:
        return await response.read_all(1 << 30)
    finally:
        response.close()


async def fault_of(client, request):
    """The fault of a request, read to its end."""
    with pytest.raises(UpstreamFault) as raised:
        await whole_answer(client, request)
    assert client.stats() == {}
    return raised.value


def to(origin, **more):
    return UpstreamRequest(origin=origin, method="POST", target="/", headers=(), body=b"{}", **more)


@contextlib.contextmanager
def black_hole():
    """A port where connections neither succeed nor fail: its queue is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    "host",
    ["a..b", "a" * 64 + ".test", ".".join(["a" * 60] * 6)],
    ids=["empty label", "long label", "long name"],
)
async def test_a_name_that_does_not_resolve(client, host):
    fault = await fault_of(client, to(Origin("http", host, 80)))
    assert (fault.kind, fault.sent) == ("dns", False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_nobody_listens(client, host):
    fault = await fault_of(client, to(Origin("http", host, unused_port())))
    assert (fault.kind, fault.sent) == ("connect", False)
    assert host in fault.message


async def test_a_connection_that_hangs(client):
    with black_hole() as port:
        fault = await fault_of(
            client, to(Origin("http", "127.0.0.1", port), deadlines=Deadlines(connect=TINY))
        )
        assert (fault.kind, fault.sent) == ("connect_timeout", False)
        fault = await fault_of(client, to(Origin("http", "127.0.0.1", port), deadlines=Deadlines(total=TINY)))
        assert (fault.kind, fault.sent) == ("total_timeout", False)


async def test_ipv6_and_names(client):
    async def script(peer):
        await peer.request()
        await peer.send(whole())

    for host in ("::1", "localhost"):
        async with serve(script, host=host) as server:
            assert await (await client.send(server.request())).read_all(10) == b"ok"


@pytest.mark.parametrize("first", ["refused", "hanging"])
async def test_the_next_address_is_tried_within_the_deadline(first):
    async def script(peer):
        await peer.until_gone()

    async with serve(script) as server:
        with black_hole() as hole:
            dialler = Dialler(Origin("http", "many.test", 80), default_tls)
            bad = unused_port() if first == "refused" else hole
            good = server.origin.port
            dialler._addresses = [(socket.AF_INET, ("127.0.0.1", port)) for port in (bad, good)]
            dialler._believed_until = math.inf
            loop = asyncio.get_running_loop()
            protocol = await dialler.connect(asyncio.Protocol, loop.time() + 0.4)
            assert protocol is not None
            await eventually(lambda: len(server.peers) == 1)
            server.peers[0].writer.close()


async def test_a_name_is_asked_again_once_all_its_addresses_have_failed():
    async def script(peer):
        await peer.until_gone()

    async with serve(script) as server:
        dialler = Dialler(Origin("http", "localhost", server.origin.port), default_tls)
        dialler._addresses = [(socket.AF_INET, ("127.0.0.1", unused_port()))]
        dialler._believed_until = math.inf
        until = asyncio.get_running_loop().time() + 5
        with pytest.raises(UpstreamFault) as raised:
            await dialler.connect(asyncio.Protocol, until)
        assert raised.value.kind == "connect"
        assert await dialler.connect(asyncio.Protocol, until)
        await eventually(lambda: len(server.peers) == 1)
        server.peers[0].writer.close()


def test_families_take_turns():
    four, six = socket.AF_INET, socket.AF_INET6
    found = _interleave([(six, 1), (six, 2), (six, 3), (four, 4)])
    assert found == [(six, 1), (four, 4), (six, 2), (six, 3)]
    assert _interleave([]) == []


async def swallow(peer):
    await peer.request()
    await peer.until_gone()


async def never_read(peer):
    peer.reader._transport.pause_reading()
    await asyncio.Event().wait()


async def half_head(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
    await peer.until_gone()


async def half_body(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    await peer.until_gone()


async def drip_body(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        await peer.send(b"x")
        await asyncio.sleep(TINY / 8)


async def drip_informational(peer):
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(TINY)


async def drip_head(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await peer.send(b"x")
        await asyncio.sleep(TINY / 8)


async def close_at_once(peer):
    await peer.request()


async def reset_at_once(peer):
    await peer.request()
    peer.reset()


async def reset_in_body(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    peer.reset()


LARGE = b"x" * (32 << 20)

FAULTS = [
    (close_at_once, b"{}", Deadlines(), "reset"),
    (close_at_once, b"x" * 300_000, Deadlines(), "reset"),
    (reset_at_once, b"{}", Deadlines(), "reset"),
    (reset_in_body, b"{}", Deadlines(), "truncated"),
    (never_read, LARGE, Deadlines(write=TINY), "write_timeout"),
    (never_read, LARGE, Deadlines(total=TINY), "total_timeout"),
    (swallow, b"{}", Deadlines(first_byte=TINY), "first_byte_timeout"),
    (swallow, b"x" * 300_000, Deadlines(first_byte=TINY), "first_byte_timeout"),
    (swallow, b"{}", Deadlines(total=TINY), "total_timeout"),
    (half_head, b"{}", Deadlines(first_byte=TINY), "first_byte_timeout"),
    (drip_head, b"{}", Deadlines(first_byte=TINY), "first_byte_timeout"),
    (drip_informational, b"{}", Deadlines(first_byte=2.5 * TINY), "first_byte_timeout"),
    (half_body, b"{}", Deadlines(idle=TINY), "idle_timeout"),
    (half_body, b"{}", Deadlines(total=TINY), "total_timeout"),
    (drip_body, b"{}", Deadlines(idle=10 * TINY, total=3 * TINY), "total_timeout"),
]


@pytest.mark.parametrize(
    ("script", "body", "deadlines", "kind"), FAULTS, ids=lambda one: getattr(one, "__name__", None)
)
async def test_faults_after_the_request_was_written(client, script, body, deadlines, kind):
    async with serve(script) as server:
        fault = await fault_of(client, server.request(body=body, deadlines=deadlines))
        assert (fault.kind, fault.sent) == (kind, True)


async def test_bytes_before_a_fault_are_delivered_first(client):
    async with serve(half_body) as server:
        response = await client.send(server.request(deadlines=Deadlines(idle=TINY)))
        await eventually(lambda: client.stats() == {})  # the fault is here, the bytes unread
        assert await response.read_some() == b"ab"
        for _ in range(2):
            with pytest.raises(UpstreamFault) as raised:
                await response.read_some()
            assert raised.value.kind == "idle_timeout"


async def test_a_slow_reader_is_not_the_upstreams_silence(client):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 23))
        await peer.send(bytes(1 << 23))
        await peer.until_gone()

    loop = asyncio.get_running_loop()
    async with serve(script) as server:
        response = await client.send(server.request(deadlines=Deadlines(idle=TINY)))
        await eventually(lambda: response.held > HELD_MAX)
        later = loop.time() + 3 * TINY
        await eventually(lambda: loop.time() > later)
        assert len(await response.read_all(1 << 23)) == 1 << 23


async def test_deadlines_of_one_exchange_do_not_bind_the_next(client):
    async def script(peer):
        while True:
            await peer.request()
            await peer.send(whole())

    loop = asyncio.get_running_loop()
    async with serve(script) as server:
        short = Deadlines(first_byte=0.5, idle=0.5, total=0.5)
        await (await client.send(server.request(deadlines=short))).read_all(10)
        later = loop.time() + 0.6
        await eventually(lambda: loop.time() > later)
        for deadlines in (Deadlines(), short):
            assert await (await client.send(server.request(deadlines=deadlines))).read_all(10) == b"ok"
        assert len(server.peers) == 1


async def test_a_later_silence_on_a_reused_connection_is_told_by_its_own_deadline(client):
    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await swallow(peer)

    async with serve(script) as server:
        await (await client.send(server.request())).read_all(10)
        fault = await fault_of(client, server.request(deadlines=Deadlines(first_byte=TINY)))
        assert fault.kind == "first_byte_timeout"
        assert len(server.peers) == 1


async def test_a_reused_connection_that_ends_late_took_the_request(client, monkeypatch):
    monkeypatch.setattr("tollway.upstream.connection.STALE_WINDOW", 0.0)

    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await peer.request()

    async with serve(script) as server:
        await (await client.send(server.request())).read_all(10)
        fault = await fault_of(client, server.request())
        assert (fault.kind, fault.sent, len(server.peers)) == ("reset", True, 1)
