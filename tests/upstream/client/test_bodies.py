"""Large bodies both ways: flow control, bounded memory, early answers, limits, closing in the middle."""

import asyncio
import contextlib
import hashlib
import socket
import threading

import pytest
from tests.support.servers import eventually, serve, whole

from tollway.upstream.client import Client
from tollway.upstream.connection import HELD_MAX
from tollway.upstream.transport import Origin, UpstreamFault, UpstreamRequest

MB = 1 << 20
LARGE = bytes(range(256)) * (32 * MB // 256)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1 * MB + 1, 32 * MB])
async def test_a_body_arrives_as_it_was_sent(client: Client, size):
    async def script(peer):
        asked = await peer.request()
        await peer.send(whole(200, hashlib.sha256(asked.body).digest()))
        await peer.until_gone()

    async with serve(script) as server:
        body = LARGE[:size]
        response = await client.send(server.request(body=body))
        assert await response.read_all(100) == hashlib.sha256(body).digest()
        await eventually(lambda: client.stats()[server.origin].idle == 1)


@pytest.mark.parametrize("status", [413, 200])
async def test_an_answer_before_the_body_was_read_is_the_answer(client: Client, status):
    async def script(peer):
        await peer.head()
        await peer.send(whole(status, b"early", headers=b"connection: close\r\n"))

    async with serve(script) as server:
        for _ in range(15):
            response = await client.send(server.request(body=LARGE))
            assert response.status == status
            assert await response.read_all(100) == b"early"
        assert client.stats() == {}


@contextlib.contextmanager
def rejecting_server():
    """Answers 413 after the first bytes of a request and closes, in a thread, so that its reset races our writing."""

    def run():
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted:
                if not accepted.recv(1000):
                    return
                accepted.sendall(whole(413, b"too large", headers=b"connection: close\r\n"))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Origin("http", *listening.getsockname())
        finally:
            socket.create_connection(listening.getsockname()).close()
            thread.join()


async def test_an_answer_whose_close_resets_our_writing_is_still_the_answer(client: Client):
    with rejecting_server() as origin:
        for n in range(60):
            body = LARGE[: 65_536 * (1 + 4 * n)]
            response = await client.send(
                UpstreamRequest(origin=origin, method="POST", target="/", headers=(), body=body)
            )
            assert response.status == 413
            assert await response.read_all(100) == b"too large"
        assert client.stats() == {}


async def test_an_early_failure_stops_the_body_and_the_connection_is_not_reused(client: Client):
    async def script(peer):
        await peer.head()
        await peer.send(whole(429, b"slow down"))
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request(body=LARGE))
        assert await response.read_all(100) == b"slow down"
        await eventually(server.peers[0].gone.is_set)
        assert client.stats() == {}


async def test_a_connection_whose_body_was_given_up_is_not_reused_though_all_written_was_read(client: Client):
    answered = asyncio.Event()

    async def read_on(peer):
        while await peer.reader.read(1 << 20):
            pass

    async def script(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 429 X\r\ncontent-length: 4\r\n\r\n")
        reading = asyncio.create_task(read_on(peer))
        await answered.wait()
        await peer.send(b"wait")
        await reading

    async with serve(script) as server:
        response = await client.send(server.request(body=LARGE))
        (connection,) = client._pools[server.origin]._connections
        await eventually(lambda: connection._transport.get_write_buffer_size() == 0)
        answered.set()
        assert await response.read_all(100) == b"wait"
        assert client.stats() == {}


async def test_a_slow_upstream_holds_the_body_back(client: Client):
    async def script(peer):
        peer.reader._transport.pause_reading()
        await asyncio.Event().wait()

    async with serve(script) as server:
        sending = asyncio.create_task(client.send(server.request(body=LARGE)))
        await eventually(lambda: server.origin in client._pools and client._pools[server.origin]._connections)
        (connection,) = client._pools[server.origin]._connections
        await eventually(lambda: connection._writing_paused)
        assert connection._transport.get_write_buffer_size() <= 256 * 1024
        assert len(connection._unsent) > len(LARGE) // 2
        sending.cancel()
        await asyncio.wait([sending])


async def test_a_response_while_the_body_is_still_being_read(client: Client):
    async def script(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        left, size = len(LARGE), 0
        while left:
            data = await peer.reader.read(min(left, 256 * 1024))
            left -= len(data)
            size += len(data)
            await peer.send(b"1\r\nx\r\n")
        await peer.send(b"0\r\n\r\n")
        assert size == len(LARGE)
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request(body=LARGE))
        assert set(await response.read_all(MB)) == {ord("x")}
        assert client.stats()[server.origin].idle == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_fast_upstream_is_held_back_by_a_slow_reader(client: Client, framing):
    total = 50 * MB
    piece = b"0123456789abcdef" * 4096
    sent = 0

    async def script(peer):
        nonlocal sent
        await peer.request()
        head = {
            "length": b"content-length: %d\r\n" % total,
            "chunked": b"transfer-encoding: chunked\r\n",
            "close": b"",
        }
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n")
        while sent < total:
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            sent += len(piece)
        await peer.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        if framing != "close":
            await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        most = size = 0
        digest = hashlib.sha256()
        await eventually(lambda: response.held > HELD_MAX)
        assert sent < total
        while True:
            most = max(most, response.held)
            data = await response.read_some()
            if not data:
                break
            size += len(data)
            digest.update(data)
            await asyncio.sleep(0)
        assert most <= 512 * 1024
        assert size == total
        assert digest.digest() == hashlib.sha256(piece * (total // len(piece))).digest()
        if framing != "close":
            assert client.stats()[server.origin].idle == 1


async def test_reading_goes_on_for_the_next_exchange_when_a_paused_one_ends(client: Client):
    """Bytes may still come after the pause, from records TLS had already read: here the body comes by hand."""

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 300003\r\n\r\n")
        await peer.request()
        await peer.send(whole())
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        (connection,) = client._pools[server.origin]._connections
        connection.data_received(bytes(300_000))
        assert connection._reading_paused
        connection.data_received(b"end")
        assert await (await client.send(server.request())).read_all(10) == b"ok"
        assert (await response.read_all(MB))[-4:] == b"\0end"
        assert len(server.peers) == 1


LIMITED = {
    "declared": b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nabcdefghijk",
}


@pytest.mark.parametrize("name", LIMITED)
async def test_too_large_a_body_is_cut(client: Client, name):
    async def script(peer):
        await peer.request()
        await peer.send(LIMITED[name])
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        with pytest.raises(UpstreamFault) as raised:
            await response.read_all(10)
        assert (raised.value.kind, raised.value.sent) == ("too_large", True)
        if name != "chunked":
            await eventually(server.peers[0].gone.is_set)
            assert client.stats() == {}


@pytest.mark.parametrize("size", [10, 11])
async def test_a_body_of_exactly_the_limit_is_read(client: Client, size):
    async def script(peer):
        await peer.request()
        await peer.send(whole(200, b"x" * size))

    async with serve(script) as server:
        assert len(await (await client.send(server.request())).read_all(size)) == size


async def test_closing_in_the_middle_cuts_at_once(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        response.close()
        assert client.stats() == {}
        response.close()
        with pytest.raises(UpstreamFault) as raised:
            await response.read_some()
        assert raised.value.kind == "closed"
        await eventually(server.peers[0].gone.is_set)


async def test_closing_after_the_end_keeps_the_connection_and_forgets_the_body(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(whole())
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        await eventually(lambda: client.stats()[server.origin].idle == 1)
        response.close()
        with pytest.raises(UpstreamFault):
            await response.read_some()
        assert client.stats()[server.origin].idle == 1


async def test_a_response_has_one_reader(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await more.wait()
        await peer.send(b"ok")

    more = asyncio.Event()
    async with serve(script) as server:
        response = await client.send(server.request())
        first = asyncio.create_task(response.read_some())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await response.read_some()
        more.set()
        assert await first == b"ok"
        assert await response.read_some() == b""


async def test_what_has_arrived_is_taken_at_once(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * 500 + b"0\r\n\r\n"
        )
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        await eventually(lambda: response.complete)
        assert len(response.parts) <= 65
        assert await response.read_some() == b"ab" * 500
        assert await response.read_some() == b""
        assert await response.read_some() == b""


async def test_what_has_arrived_can_be_asked_for_without_waiting(client: Client):
    more, end = asyncio.Event(), asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await more.wait()
        await peer.send(b"ab")
        await end.wait()
        await peer.send(b"cd")
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        assert response.arrived() is None
        more.set()
        await eventually(lambda: response.parts)
        assert response.arrived() == b"ab"
        assert response.arrived() is None
        end.set()
        await eventually(lambda: response.complete)
        assert [response.arrived() for _ in range(3)] == [b"cd", b"", b""]
        response.close()
        with pytest.raises(UpstreamFault) as raised:
            response.arrived()
        assert raised.value.kind == "closed"


async def test_what_arrived_before_a_fault_is_told_before_it(client: Client):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request())
        await eventually(lambda: response.fault)
        assert response.arrived() == b"ab"
        with pytest.raises(UpstreamFault) as raised:
            response.arrived()
        assert raised.value.kind == "truncated"
