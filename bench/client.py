"""What the upstream client costs: CPU per request and per streamed chunk, beside aiohttp's client in the same run.

    python -m bench.client [--requests N] [--connections N] [--chunks N]

A trivial upstream answers from another process over loopback. Figures are user and system time of
this process divided by requests (or chunks), so they include the event loop and the kernel's work
for its sockets; the upstream's are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import aiohttp
import uvloop

from tollway.upstream.client import Client
from tollway.upstream.transport import Origin, UpstreamRequest

_HEADERS = (
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"bench"),
)
_BODY = b'{"model":"fast","messages":[{"role":"user","content":"' + b"x" * 300 + b'"}]}'
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"message":{"content":"'
    + b"y" * 300
    + b'"}}]}'
)
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2029 00:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"x-request-id: req-1\r\nserver: bench\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"token"}}]}\n\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


class Upstream(asyncio.Protocol):
    """Answers every request at once; a path ending in /N is answered by N chunks, one per turn of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.buffer.lower().find(b"content-length: ")
        size = int(self.buffer[at + 16 : self.buffer.index(b"\r\n", at)]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + size:
            return
        target = self.buffer.split(b" ", 2)[1]
        self.buffer = b""
        chunks = target.rpartition(b"/")[2]
        if chunks.isdigit():
            self.transport.write(_STREAM_HEAD)
            self.stream(int(chunks))
        else:
            self.transport.write(_RESPONSE)

    def stream(self, left: int) -> None:
        if self.transport.is_closing():
            return
        if not left:
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(_CHUNK)
        asyncio.get_running_loop().call_later(0.001, self.stream, left - 1)


def run_upstream(pipe: Pipe) -> None:
    """The other process: listen, tell the port, serve until killed."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def cpu_seconds() -> float:
    """User and system time this process has spent."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(one: Callable[[], Awaitable[int]], times: int, connections: int) -> float:
    """CPU microseconds per unit, where each call of `one` returns how many units it did."""
    units = 0

    async def worker(times: int) -> None:
        nonlocal units
        for _ in range(times):
            done = await one()
            units += done

    await asyncio.gather(*(worker(2) for _ in range(connections)))  # warm the pool
    units = 0
    before = cpu_seconds()
    await asyncio.gather(*(worker(times // connections) for _ in range(connections)))
    return (cpu_seconds() - before) / units * 1e6


async def ours(port: int, options: argparse.Namespace) -> tuple[float, float]:
    """Our client: per request, per chunk."""
    client = Client()
    origin = Origin("http", "127.0.0.1", port)
    ask = UpstreamRequest(origin=origin, method="POST", target="/v1/chat", headers=_HEADERS, body=_BODY)
    listen = UpstreamRequest(
        origin=origin, method="POST", target=f"/stream/{options.chunks}", headers=_HEADERS, body=_BODY
    )

    async def whole() -> int:
        response = await client.send(ask)
        assert await response.read_all(1 << 20) == _ANSWER
        response.close()
        return 1

    async def stream() -> int:
        response = await client.send(listen)
        size = 0
        while data := await response.read_some():
            size += len(data)
        response.close()
        assert size == options.chunks * len(_EVENT)
        return options.chunks

    found = (
        await measure(whole, options.requests, options.connections),
        await measure(stream, options.requests // 100, options.connections),
    )
    await client.close()
    return found


async def theirs(port: int, options: argparse.Namespace) -> tuple[float, float]:
    """The same work by aiohttp's client."""
    base = f"http://127.0.0.1:{port}"
    headers = {name.decode(): value.decode() for name, value in _HEADERS}
    connector = aiohttp.TCPConnector(limit=1000)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=headers) as session:

        async def whole() -> int:
            async with session.post(f"{base}/v1/chat", data=_BODY) as response:
                assert await response.read() == _ANSWER
            return 1

        async def stream() -> int:
            size = 0
            async with session.post(f"{base}/stream/{options.chunks}", data=_BODY) as response:
                async for data in response.content.iter_any():
                    size += len(data)
            assert size == options.chunks * len(_EVENT)
            return options.chunks

        return (
            await measure(whole, options.requests, options.connections),
            await measure(stream, options.requests // 100, options.connections),
        )


def main() -> None:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(description="CPU of the upstream client, beside aiohttp's")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--chunks", type=int, default=200)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    upstream = context.Process(target=run_upstream, args=(far,), daemon=True)
    upstream.start()
    try:
        port = near.recv()
        rows = [
            (name, *uvloop.run(run(port, options))) for name, run in (("tollway", ours), ("aiohttp", theirs))
        ]
    finally:
        upstream.kill()
        upstream.join()
    print(
        f"{options.connections} connections, {options.requests} requests, {options.chunks} chunks a stream; CPU us"
    )
    print(f"{'client':10} {'per request':>12} {'per chunk':>10}")
    for name, request, chunk in rows:
        print(f"{name:10} {request:12.1f} {chunk:10.1f}")
    print(f"{'ratio':10} {rows[0][1] / rows[1][1]:12.2f} {rows[0][2] / rows[1][2]:10.2f}")


if __name__ == "__main__":
    main()
