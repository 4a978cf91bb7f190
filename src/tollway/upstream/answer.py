"""A response as its reader sees it: filled by a connection, pulled by the relay.

The connection appends what arrives and calls `wake`; the reader takes everything that has
arrived at once. A future exists only while somebody waits. A fault is told after the bytes that
came before it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tollway.upstream.transport import FaultKind, UpstreamFault


class Line(Protocol):
    """What an answer asks of the connection that fills it."""

    def drained(self) -> None:
        """The reader has taken all that was buffered."""
        ...

    def cut(self, kind: FaultKind, message: str) -> None:
        """Close the connection at once and fail its answer."""
        ...


class Answer:
    """The UpstreamResponse of this client. Fields without a leading line in UpstreamResponse belong to the connection.

    `line` is the connection while the exchange goes on, None once it is complete or has failed.
    `held` counts the body bytes in `parts`. `stale` says that a reused connection was already dead.
    """

    __slots__ = (
        "_loop",
        "_waiter",
        "begun",
        "complete",
        "fault",
        "headers",
        "held",
        "length",
        "line",
        "parts",
        "stale",
        "status",
    )

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.line: Line | None = line
        self.parts: list[bytes] = []
        self.held = 0
        self.length: int | None = None
        self.begun = False
        self.complete = False
        self.stale = False
        self.fault: tuple[FaultKind, str] | None = None
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    async def head(self) -> None:
        """Wait until status and headers are here. Raises UpstreamFault."""
        while not self.begun:
            self._raise_fault()
            await self._wait()

    async def read_some(self) -> bytes:
        """All body bytes that have arrived since the last call, waiting for the first; b"" at the proper end."""
        while not self.parts:
            if self.complete:
                return b""
            self._raise_fault()
            await self._wait()
        return self._take()

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamFault("too_large") beyond `limit` bytes, before reading them if declared."""
        if self.length is not None and self.length > limit:
            self._refuse(limit)
        found: list[bytes] = []
        size = 0
        while data := await self.read_some():
            size += len(data)
            if size > limit:
                self._refuse(limit)
            found.append(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def close(self) -> None:
        """Cut the connection unless the exchange is complete. Idempotent; a later read raises UpstreamFault("closed")."""
        line = self.line
        if line is not None:
            line.cut("closed", "the response was closed before its end")
        self.parts.clear()
        self.held = 0
        if self.fault is None:
            self.fault = ("closed", "the response is closed")
        # An answer that was closed unread must not look like one that ended properly.
        self.complete = False

    def fail(self, kind: FaultKind, message: str) -> None:
        """End the answer with a fault, which the reader meets after the bytes already here."""
        if self.fault is None and not self.complete:
            self.fault = (kind, message)
        self.line = None
        self.wake()

    def wake(self) -> None:
        """Tell the reader, if one waits, that something has changed."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _take(self) -> bytes:
        parts = self.parts
        if len(parts) == 1:
            data = parts.pop()
        else:
            data = b"".join(parts)
            parts.clear()
        self.held = 0
        if self.line is not None:
            self.line.drained()
        return data

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("a response has one reader at a time")
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def _raise_fault(self) -> None:
        if self.fault is not None:
            kind, message = self.fault
            raise UpstreamFault(kind, message, sent=True)

    def _refuse(self, limit: int) -> None:
        self.close()
        raise UpstreamFault("too_large", f"the upstream's body is larger than {limit} bytes", sent=True)
