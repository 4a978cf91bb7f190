"""Feeding one client connection exact segments, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from tollway.upstream.answer import Answer
from tollway.upstream.connection import Connection
from tollway.upstream.outbox import Outbox
from tollway.upstream.recall import Heads
from tollway.upstream.transport import Deadlines, Origin, UpstreamFault, UpstreamRequest

PROMPT = Deadlines(first_byte=2, idle=2, total=4)
"""So that a response that never ends fails its test instead of holding it up."""


class Heard(NamedTuple):
    """What became of a response: `fault` is None for a proper end; `reused` whether the connection lives on."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    fault: str | None
    reused: bool


class RecordingHome:
    """The pool's part: remembers what the connection said of itself."""

    keep = 55.0

    def __init__(self, heads: Heads | None = None) -> None:
        self.said: list[str] = []
        self.heads = heads or Heads()
        self.outbox = Outbox()

    def released(self, connection: Connection) -> None:
        self.said.append("released")

    def lost(self, connection: Connection) -> None:
        self.said.append("lost")


@asynccontextmanager
async def begun(
    method: str = "POST", heads: Heads | None = None
) -> AsyncIterator[tuple[Connection, Answer, RecordingHome]]:
    """A connection whose one request has been sent; the test plays the event loop that tells it what arrives."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    home = RecordingHome(heads)
    _, connection = await loop.create_connection(lambda: Connection(loop, home), sock=ours)
    try:
        yield connection, begin(connection, method), home
    finally:
        connection.abort()
        theirs.close()
        await asyncio.sleep(0)  # the turn on which the transport closes its socket


def begin(connection: Connection, method: str = "POST") -> Answer:
    """Send a request on a free connection."""
    request = UpstreamRequest(
        origin=Origin("http", "h", 80), method=method, target="/", headers=(), body=b"", deadlines=PROMPT
    )
    now = asyncio.get_running_loop().time()
    return connection.begin(request, b"POST / HTTP/1.1\r\n\r\n", now, now + PROMPT.total)


async def hear(
    pieces: Iterable[bytes],
    *,
    method: str = "POST",
    eof: bool = True,
    reset: bool = False,
    pumped: bool = False,
    heads: Heads | None = None,
) -> Heard:
    """Send one request and let `pieces` arrive, each as one segment, then the end of the stream.

    `pumped`: the body is handed over as it arrives, not read when all is over. `heads`: what was learnt before.
    """
    async with begun(method, heads) as (connection, answer, home):
        body = bytearray()
        pump = asyncio.create_task(answer.pump(partial(_taken, body))) if pumped else None
        await asyncio.sleep(0)  # the turn on which a pump begins to wait
        for piece in pieces:
            if "lost" in home.said:
                break
            connection.data_received(piece)
        reused = home.said == ["released"]
        if reset:
            connection.connection_lost(ConnectionResetError("reset by the test"))
        elif eof:
            connection.eof_received()
        fault: str | None = None
        try:
            if pump is not None:
                await pump
            else:
                await answer.head()
                while data := await answer.read_some():
                    body += data
        except UpstreamFault as error:
            fault = error.kind if error.sent else "a fault before the request was sent"
    return Heard(answer.status, answer.headers, bytes(body), fault, reused)


def _taken(body: bytearray, chunk: bytes) -> bool:
    body += chunk
    return not chunk
