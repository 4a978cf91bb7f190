"""Raw scripted servers: a coroutine per connection decides every byte and when it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from tollway.upstream.transport import Deadlines, Origin, UpstreamRequest

DEFAULT = Deadlines()
PATIENCE = 10.0
"""Seconds a condition may take before a test gives up on it."""


class Asked:
    """A request as it arrived: `head` is its raw bytes up to and with the blank line."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.line, *rest = head[:-4].split(b"\r\n")
        self.headers = [tuple(one.split(b": ", 1)) for one in rest]

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known.lower() == name), None)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> Asked:
        head = await self.head()
        asked = Asked(head, b"")
        asked.body = await self.reader.readexactly(int(asked.header(b"content-length") or 0))
        return asked

    async def send(self, *pieces: bytes) -> None:
        """Send pieces as separate segments, each handed to the kernel before the next."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)

    def eof(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Wait until the client has closed or reset the connection."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass
        self.gone.set()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """A listening server. `peers` are the connections accepted so far, in order."""

    def __init__(self, listening: asyncio.Server, host: str, scheme: Literal["http", "https"]) -> None:
        self.listening = listening
        self.origin = Origin(scheme, host, listening.sockets[0].getsockname()[1])
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []

    def request(
        self,
        target: str = "/",
        *,
        method: str = "POST",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        body: bytes = b"{}",
        deadlines: Deadlines = DEFAULT,
        replayable: bool = True,
    ) -> UpstreamRequest:
        return UpstreamRequest(
            origin=self.origin,
            method=method,
            target=target,
            headers=headers,
            body=body,
            deadlines=deadlines,
            replayable=replayable,
        )


@contextlib.asynccontextmanager
async def serve(
    script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve every connection by `script` until the block ends; a failed script fails the test."""
    running: set[asyncio.Task[None]] = set()

    async def run(peer: Peer) -> None:
        try:
            await script(peer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left, as many tests want
        except asyncio.CancelledError:
            peer.writer.transport.abort()
            raise
        except Exception as error:
            server.failures.append(error)
        finally:
            peer.writer.transport.abort() if tls else peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        server.peers.append(peer)
        task = asyncio.get_running_loop().create_task(run(peer))
        running.add(task)
        task.add_done_callback(running.discard)

    listening = await asyncio.start_server(accept, host, 0, ssl=tls, backlog=1024)
    server = Server(listening, host, "https" if tls else "http")
    try:
        yield server
    finally:
        listening.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if server.failures:
        raise server.failures[0]


async def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until `condition()` is true, at most PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what


def whole(status: int = 200, body: bytes = b"ok", *, headers: bytes = b"") -> bytes:
    """A response with Content-Length."""
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def unused_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, for a moment at least."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]
