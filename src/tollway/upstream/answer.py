"""A response as its reader sees it: filled by a connection, pulled by the relay.

The connection appends what arrives and calls `wake`; the reader takes everything that has
arrived at once. A future exists only while somebody waits. A fault is told after the bytes that
came before it.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn, Protocol

from tollway.core import chunked
from tollway.upstream.recall import Recall, spelled
from tollway.upstream.transport import Carry, FaultKind, Take, UpstreamFault, never

HELD_MAX: Final = 256 * 1024
"""Bytes of a response, its framing included, held for a slow reader before reading from the upstream pauses."""

_BLANKS: Final = b" \t"


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

    `status` is 0 until the head is here, `lines` its headers as they were written, if it was parsed.
    `line` is the connection while the exchange goes on, None once it is complete or has failed. `parts`
    is the body that has arrived, the connection's own list while the exchange goes on. `held` counts the
    bytes that have arrived since `parts` was taken.
    """

    __slots__ = (
        "_loop",
        "_pumped",
        "_recalled",
        "complete",
        "fault",
        "held",
        "line",
        "lines",
        "parts",
        "status",
        "waiter",
    )

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop, parts: list[bytes]) -> None:
        self.status = 0
        self.lines: list[tuple[bytes, bytes]] = []
        self.line: Line | None = line
        self.parts = parts
        self.held = 0
        self.complete = False
        self.fault: tuple[FaultKind, str] | None = None
        self._loop = loop
        self.waiter: asyncio.Future[None] | None = None
        self._pumped: tuple[Take, Carry, asyncio.Future[None]] | None = None
        self._recalled: tuple[Recall, bytes] | None = None

    def recall(self, known: Recall, data: bytes, body: bytes) -> None:
        """Be the whole answer `data`, whose head is known and whose body is `body`."""
        self._recalled = known, data
        self.status = 200
        self.parts = [body]
        self.complete = True

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers in the order they came, their names in lower case."""
        lines = self.lines if self._recalled is None else spelled(self._recalled[1])
        return [(name.lower(), value.rstrip(_BLANKS)) for name, value in lines]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        if self._recalled is not None:
            fixed = self._recalled[0].fixed.get(name)
            if fixed is not None:
                return fixed
            return next((value for told, value in self.headers if told == name), None)
        for written, value in self.lines:
            if written.lower() == name:
                return value.rstrip(_BLANKS)
        return None

    async def head(self) -> None:
        """Wait until status and headers are here. Raises UpstreamFault."""
        while not self.status:
            change = self.change()
            try:
                await change
            except BaseException:
                self.close()
                raise

    def arrived(self) -> bytes | None:
        """What `read_some` would return without waiting; None if it would wait. Raises UpstreamFault."""
        parts = self.parts
        if parts:
            if len(parts) > 1 or self.held > HELD_MAX:
                return self._take()
            self.held = 0
            return parts.pop()
        if self.complete:
            return b""
        if self.fault is not None:
            self._raise(*self.fault)
        return None

    async def read_some(self) -> bytes:
        """All body bytes that have arrived since the last call, waiting for the first; b"" at the proper end."""
        while not self.parts:
            if self.complete:
                return b""
            # Each coroutine between the reader's task and its future is run through on every wake: none is here.
            change = self.change()
            try:
                await change
            except BaseException:
                self.close()
                raise
        parts = self.parts
        if len(parts) > 1 or self.held > HELD_MAX:
            return self._take()
        self.held = 0
        return parts.pop()

    async def pump(self, take: Take, carry: Carry = never) -> None:
        """Hand over what has arrived and what arrives, at once and without waking a task for it. See UpstreamResponse."""
        if self._pour(take):
            return
        done = self.change()
        self.waiter = None
        self._pumped = (take, carry, done)
        try:
            await done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._pumped = None

    def hand(self, segment: bytes) -> bool:
        """Hand over a segment of whole small chunks to a reader who waits; False where it is none, or nobody takes it so."""
        if self._pumped is None:
            return False
        take, carry, done = self._pumped
        if done.done():
            return False
        try:
            stop = carry(segment)
            if stop is None:
                line = chunked.SIZE_LINES.get(len(segment))
                if line is None or not (segment.startswith(line) and segment.endswith(chunked.END)):
                    return False
                stop = take(segment[len(line) : -2])
            if stop:
                done.set_result(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the reader waits
            done.set_exception(error)
        return True

    def _flow(self, take: Take, done: asyncio.Future[None]) -> None:
        if done.done():
            return
        try:
            if self._pour(take):
                done.set_result(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the reader waits
            done.set_exception(error)

    def _pour(self, take: Take) -> bool:
        # What `arrived` and `_take` do, spelled out: this runs for every chunk of every stream.
        parts = self.parts
        while True:
            if len(parts) == 1 and self.held <= HELD_MAX:
                self.held = 0
                if take(parts.pop()):
                    return True
            elif (chunk := self.arrived()) is None:
                return False
            elif take(chunk) or not chunk:
                return True
            parts = self.parts

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamFault("too_large") beyond `limit` bytes, before reading them if declared."""
        declared = self.header(b"content-length")
        if declared is not None and int(declared) > limit:
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

    def change(self) -> asyncio.Future[None]:
        """Done when something has changed; whoever is interrupted while awaiting it closes the answer.

        Raises UpstreamFault once the answer has failed, RuntimeError while somebody waits already.
        """
        if self.fault is not None:
            self._raise(*self.fault)
        if self.waiter is not None or self._pumped is not None:
            raise RuntimeError("a response has one reader at a time")
        self.waiter = waiter = self._loop.create_future()
        return waiter

    def wake(self) -> None:
        """Tell the reader, if one waits, that something has changed."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)
        elif self._pumped is not None:
            take, _, done = self._pumped
            self._flow(take, done)

    def _take(self) -> bytes:
        parts = self.parts
        data = parts.pop() if len(parts) == 1 else b"".join(parts)
        parts.clear()
        held, self.held = self.held, 0
        # Only beyond this size may the connection have paused.
        if held > HELD_MAX and self.line is not None:
            self.line.drained()
        return data

    def _raise(self, kind: FaultKind, message: str) -> NoReturn:
        raise UpstreamFault(kind, message, sent=True)

    def _refuse(self, limit: int) -> NoReturn:
        self.close()
        raise UpstreamFault("too_large", f"the upstream's body is larger than {limit} bytes", sent=True)
