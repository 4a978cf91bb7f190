"""Connections: reused newest first, bounded, handed over in order, dropped when they cannot be trusted."""

import asyncio

import pytest
from tests.support.servers import eventually, serve, whole

from tollway.upstream.client import Client
from tollway.upstream.pool import PoolStats
from tollway.upstream.transport import Deadlines, Origin, UpstreamFault


async def echo(peer):
    """Answer every request with its target."""
    while True:
        asked = await peer.request()
        await peer.send(whole(200, asked.line.split()[1]))


async def ask(client, server, target="/", **more):
    response = await client.send(server.request(target, **more))
    try:
        return await response.read_all(1 << 20)
    finally:
        response.close()


def stats(client, server):
    found = client.stats().get(server.origin)
    return (found.open, found.idle, found.in_use, found.waiting) if found else (0, 0, 0, 0)


async def test_a_connection_is_reused(client: Client):
    async with serve(echo) as server:
        for n in range(5):
            assert await ask(client, server, f"/{n}") == b"/%d" % n
        assert len(server.peers) == 1
        assert client.stats() == {server.origin: PoolStats(open=1, idle=1, in_use=0, waiting=0)}


async def test_the_connection_used_last_is_used_next(client: Client):
    asked = []

    async def script(peer):
        while True:
            await peer.request()
            asked.append(peer)
            await peer.send(whole())

    async with serve(script) as server:
        await asyncio.gather(*(ask(client, server) for _ in range(3)))
        assert stats(client, server) == (3, 3, 0, 0)
        await ask(client, server)
        last = asked[-1]
        for _ in range(3):
            await ask(client, server)
        assert asked[-3:] == [last] * 3


async def test_a_connection_is_free_when_the_response_is_here_not_when_it_is_read(client: Client):
    async with serve(echo) as server:
        first = await client.send(server.request("/first"))
        await eventually(lambda: stats(client, server) == (1, 1, 0, 0))
        assert await ask(client, server, "/second") == b"/second"
        assert await first.read_all(100) == b"/first"
        assert len(server.peers) == 1


async def test_origins_do_not_share(client: Client):
    async with serve(echo) as one, serve(echo) as other:
        await ask(client, one)
        await ask(client, other)
        assert (len(one.peers), len(other.peers)) == (1, 1)


async def test_the_limit_holds_and_waiters_are_served_in_order():
    client = Client(connections_max=2)
    active, most, order = 0, 0, []
    gate = asyncio.Event()

    async def script(peer):
        nonlocal active, most
        while True:
            asked = await peer.request()
            active += 1
            most = max(most, active)
            order.append(asked.line.split()[1])
            await gate.wait()
            active -= 1
            await peer.send(whole())

    async with serve(script) as server:
        tasks = []
        for n in range(10):
            tasks.append(asyncio.create_task(ask(client, server, f"/{n}")))
            await eventually(lambda n=n: sum(stats(client, server)[2:]) == n + 1)
        await eventually(lambda: len(order) == 2)
        assert stats(client, server) == (2, 0, 2, 8)
        gate.set()
        assert await asyncio.gather(*tasks) == [b"ok"] * 10
        assert (most, len(server.peers)) == (2, 2)
        assert order == sorted(order)
        assert stats(client, server) == (2, 2, 0, 0)
        await client.close()


@pytest.mark.parametrize("target", ["/", "/close"], ids=["a connection", "a place"])
@pytest.mark.parametrize("victim", range(4))
async def test_a_cancelled_waiter_passes_on_what_it_was_given(target, victim):
    client = Client(connections_max=1)
    gate = asyncio.Event()

    async def script(peer):
        while True:
            asked = await peer.request()
            await gate.wait()
            closing = b"close" in asked.line
            await peer.send(whole(200, b"ok", headers=b"connection: close\r\n" if closing else b""))
            if closing:
                return

    async with serve(script) as server:
        tasks = [asyncio.create_task(ask(client, server, target)) for _ in range(4)]
        await eventually(lambda: stats(client, server) == (1, 0, 1, 3))
        await eventually(lambda: server.peers)
        # When the first is done, the next has been given its connection or place, but has not run.
        tasks[0].add_done_callback(lambda _: tasks[victim].cancel())
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for n, one in enumerate(found) if n != victim] == [b"ok"] * 3
        assert victim == 0 or isinstance(found[victim], asyncio.CancelledError)
        await eventually(lambda: stats(client, server)[2:] == (0, 0))
        assert await ask(client, server) == b"ok"
    await client.close()


async def test_a_full_pool_is_a_connect_timeout():
    client = Client(connections_max=1)

    async def script(peer):
        await peer.request()
        await peer.until_gone()

    async with serve(script) as server:
        first = asyncio.create_task(ask(client, server))
        await eventually(lambda: stats(client, server) == (1, 0, 1, 0))
        with pytest.raises(UpstreamFault) as raised:
            await ask(client, server, deadlines=Deadlines(connect=0.01))
        assert (raised.value.kind, raised.value.sent) == ("connect_timeout", False)
        assert stats(client, server) == (1, 0, 1, 0)
        first.cancel()
        await asyncio.wait([first])
        assert stats(client, server) == (0, 0, 0, 0)
        await client.close()


async def test_idle_connections_are_closed_in_time():
    client = Client(keep=0.02)

    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await peer.until_gone()

    async with serve(script) as server:
        await asyncio.gather(*(ask(client, server) for _ in range(3)))
        await eventually(lambda: stats(client, server) == (0, 0, 0, 0))
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        await client.close()


async def test_an_expired_connection_is_not_reused():
    client = Client(keep=0.0)
    async with serve(echo) as server:
        await ask(client, server)
        await ask(client, server)
        assert len(server.peers) == 2
        await client.close()


@pytest.mark.parametrize("ending", ["eof", "reset", "bytes", "response"])
async def test_an_idle_connection_that_is_not_silent_is_dropped(client: Client, ending):
    go = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await go.wait()
        match ending:
            case "eof":
                peer.eof()
            case "reset":
                peer.reset()
            case "bytes":
                await peer.send(b"\r\n")
            case _:
                await peer.send(whole(200, b"not for you"))
        await peer.until_gone()

    async with serve(script) as server:
        assert await ask(client, server) == b"ok"
        assert stats(client, server) == (1, 1, 0, 0)
        go.set()
        await eventually(lambda: stats(client, server) == (0, 0, 0, 0))
        assert await ask(client, server) == b"ok"
        assert len(server.peers) == 2


@pytest.mark.parametrize("ending", ["eof", "reset"])
@pytest.mark.parametrize("size", [2, 1 << 20])
async def test_a_stale_connection_is_one_transparent_retry(client: Client, ending, size):
    seen = []

    async def script(peer):
        seen.append((await peer.request()).body)
        await peer.send(whole())
        if len(seen) == 1:
            seen.append((await peer.request()).body)
            peer.eof() if ending == "eof" else peer.reset()
        await peer.until_gone()

    async with serve(script) as server:
        await ask(client, server, body=b"1")
        body = b"2" * size
        assert await ask(client, server, body=body) == b"ok"
        assert [len(one) for one in seen] == [1, size, size]
        assert len(server.peers) == 2


async def test_the_retry_is_only_one_and_only_for_a_reused_connection(client: Client):
    seen = 0

    async def script(peer):
        nonlocal seen
        await peer.request()
        seen += 1
        if seen == 1:
            await peer.send(whole())
            await peer.request()
            seen += 1
        peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        await ask(client, server)
        for total in (3, 4):  # reused and once more; then a fresh one, which is not repeated
            with pytest.raises(UpstreamFault) as raised:
                await ask(client, server)
            assert (raised.value.kind, raised.value.sent, seen) == ("reset", True, total)
        assert stats(client, server) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "first", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"]
)
async def test_no_retry_once_anything_was_received(client: Client, first):
    seen = 0

    async def script(peer):
        nonlocal seen
        await peer.request()
        await peer.send(whole())
        await peer.request()
        seen += 1
        await peer.send(first)
        peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        await ask(client, server)
        with pytest.raises(UpstreamFault) as raised:
            await ask(client, server)
        assert (raised.value.kind, raised.value.sent) == ("truncated", True)
        assert (seen, len(server.peers)) == (1, 1)


async def test_a_retry_that_cannot_connect_says_the_request_may_have_been_seen(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await peer.request()
        listening.close()
        peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        listening = server.listening
        await ask(client, server)
        with pytest.raises(UpstreamFault) as raised:
            await ask(client, server)
        assert (raised.value.kind, raised.value.sent) == ("connect", True)


async def test_what_must_not_be_repeated_goes_on_a_fresh_connection(client: Client):
    seen = 0

    async def script(peer):
        nonlocal seen
        asked = await peer.request()
        seen += 1
        if b"/once" not in asked.line:
            await peer.send(whole())
            await peer.until_gone()
        else:
            peer.eof()
            await peer.until_gone()

    async with serve(script) as server:
        await ask(client, server)
        with pytest.raises(UpstreamFault) as raised:
            await ask(client, server, "/once", replayable=False)
        assert (raised.value.kind, raised.value.sent) == ("reset", True)
        assert (seen, len(server.peers)) == (2, 2)
        assert stats(client, server) == (1, 1, 0, 0)


async def test_a_fresh_connection_takes_the_place_of_an_idle_one_when_the_pool_is_full():
    client = Client(connections_max=2)
    async with serve(echo) as server:
        await asyncio.gather(ask(client, server), ask(client, server))
        assert await ask(client, server, "/once", replayable=False) == b"/once"
        assert len(server.peers) == 3
        assert stats(client, server) == (2, 2, 0, 0)
        first = asyncio.gather(*(ask(client, server, f"/{n}", replayable=n % 2 == 0) for n in range(12)))
        assert await first == [b"/%d" % n for n in range(12)]
        assert stats(client, server)[2:] == (0, 0)
        await client.close()


async def test_origins_without_connections_are_forgotten_when_there_are_many(client: Client, monkeypatch):
    monkeypatch.setattr("tollway.upstream.client._POOLS_MAX", 3)
    async with serve(echo) as server:
        await ask(client, server)
        for port in range(1, 20):
            client._pool(Origin("http", "127.0.0.1", port))
        assert len(client._pools) <= 4
        assert await ask(client, server, "/kept") == b"/kept"
        assert len(server.peers) == 1


async def test_close_cuts_everything_and_refuses_what_follows():
    client = Client(connections_max=3)

    async def script(peer):
        asked = await peer.request()
        if b"/idle" in asked.line:
            await peer.send(whole())
        if b"/body" in asked.line:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await peer.until_gone()

    async with serve(script) as server:
        body = await client.send(server.request("/body"))
        assert await body.read_some() == b"abc"
        reading = asyncio.create_task(body.read_some())
        sending = asyncio.create_task(client.send(server.request("/head")))
        await ask(client, server, "/idle")
        occupying = asyncio.create_task(client.send(server.request("/head")))
        waiting = asyncio.create_task(client.send(server.request("/head")))
        await eventually(lambda: stats(client, server) == (3, 0, 3, 1))
        await eventually(lambda: len(server.peers) == 3)
        await client.close()
        for task, sent in ((reading, True), (sending, True), (occupying, True), (waiting, False)):
            with pytest.raises(UpstreamFault) as raised:
                await task
            assert (raised.value.kind, raised.value.sent) == ("closed", sent)
        with pytest.raises(UpstreamFault) as raised:
            await client.send(server.request("/idle"))
        assert (raised.value.kind, raised.value.sent) == ("closed", False)
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        assert client.stats() == {}
