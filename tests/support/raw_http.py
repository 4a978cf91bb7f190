"""A client that sends exactly the bytes it is told to, and reads what comes back without opinion."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

PATIENCE = 10.0
"""How long anything may take before a test fails; a bound, never a measurement."""


@dataclass
class Response:
    """One response. `body` is without framing; `complete` tells whether its framing ended properly."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection. Every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def socket(self) -> socket.socket:
        return self.writer.get_extra_info("socket")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers of the next response; raises EOFError if the connection closes before."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise EOFError(error.partial) from None
        lines = head.decode("latin-1").split("\r\n")[:-2]
        status = int(lines[0].split(" ")[1])
        pairs = [line.split(": ", 1) for line in lines[1:]]
        return status, [(name.lower(), value) for name, value in pairs]

    async def response(self, *, head_only: bool = False) -> Response:
        """The next response, whole."""
        status, headers = await self.head()
        found = dict(headers)
        async with asyncio.timeout(PATIENCE):
            if head_only or status in (100, 204, 304):
                return Response(status, headers, b"", True)
            if "content-length" in found:
                size = int(found["content-length"])
                body = await self._up_to(size)
                return Response(status, headers, body, len(body) == size)
            if found.get("transfer-encoding") == "chunked":
                body, complete = await self._chunked()
                return Response(status, headers, body, complete)
            try:
                return Response(status, headers, await self.reader.read(-1), True)
            except ConnectionResetError:
                return Response(status, headers, b"", False)

    async def _up_to(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionResetError:
            return b""

    async def _chunked(self) -> tuple[bytes, bool]:
        body = b""
        while chunk := await self.chunk():
            body += chunk
        return body, chunk is not None

    async def chunk(self) -> bytes | None:
        """The next chunk of a chunked body; b"" for the proper end, None if the connection ended instead."""
        async with asyncio.timeout(PATIENCE):
            try:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                return (await self.reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return None

    async def rest(self) -> bytes:
        """Everything until the connection ends, however it does."""
        received = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while data := await self.reader.read(65536):
                    received += data
        return received

    def half_close(self) -> None:
        """FIN, but still reading."""
        self.writer.write_eof()

    def close(self) -> None:
        """FIN, reading nothing more."""
        self.writer.close()

    def reset(self) -> None:
        """RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def connect(
    port: int, *, host: str = "127.0.0.1", receive_buffer: int | None = None, read_limit: int = 1 << 20
) -> AsyncIterator[Raw]:
    """A connection for the length of a block. `receive_buffer` makes the kernel take little at a time."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    raw = Raw(*await asyncio.open_connection(sock=sock, limit=read_limit))
    try:
        yield raw
    finally:
        raw.writer.close()
        with contextlib.suppress(OSError):
            await raw.writer.wait_closed()


async def exchange(port: int, data: bytes) -> Response:
    """Send bytes on a fresh connection and read one response."""
    async with connect(port) as raw:
        await raw.send(data)
        return await raw.response()


async def eventually(condition: Any, what: str = "the condition") -> None:
    """Wait until `condition()` is true, or fail."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what
