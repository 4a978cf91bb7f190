"""One request body: taken from the parser as it arrives, read by the handler whole or in pieces.

Nothing is read ahead of the handler beyond a small buffer, so that a body costs memory only after
its sender was let in; and all large bodies together have a limit, because each of many senders may
be within their own. A body that is too large, too slow or badly framed is told to its reader.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from tollway.core.errors import GatewayError, Limit
from tollway.web.writer import ClientGone

READ_AHEAD: Final = 64 * 1024


class Source(Protocol):
    """Where a body comes from."""

    def hold_input(self) -> None:
        """Stop reading: what has arrived is not wanted yet."""
        ...

    def want_input(self) -> None:
        """Read on."""
        ...

    def send_continue(self) -> None:
        """Tell the client to go on and send its body."""
        ...

    def make_room(self, size: int) -> bool:
        """Count so many more bytes of large bodies in memory, fewer if negative; False where there is no room."""
        ...


class Body:
    """A request body. `length` is what Content-Length announced; `received` counts bytes without framing."""

    __slots__ = (
        "_awaits_continue",
        "_chunks",
        "_discarding",
        "_event",
        "_held",
        "_limit",
        "_source",
        "_wanted",
        "_weight",
        "closed",
        "fault",
        "length",
        "more",
        "received",
    )

    def __init__(self, source: Source, length: int | None, limit: int, awaits_continue: bool) -> None:
        self.length = length
        self.received = 0
        self.more = True
        """Whether the client has not sent the end yet."""
        self.closed = False
        """Whether the exchange is over, so that nobody will read on."""
        self.fault: GatewayError | None = None
        self._source = source
        self._limit = limit
        self._chunks: list[bytes] = []
        self._held = 0
        self._wanted = False
        self._weight = 0
        """How much of it is counted among the large bodies: until the exchange is over, as long as something may hold it."""
        self._discarding = False
        self._awaits_continue = awaits_continue
        self._event: asyncio.Event | None = None

    # The sender's side.

    def feed(self, data: bytes) -> None:
        """Some of it has arrived."""
        size = len(data)
        self.received = received = self.received + size
        self._awaits_continue = False
        if received > self._limit:
            self.fail(body_too_large(received, self._limit))
        elif self._wanted and received > READ_AHEAD and not self._weigh(received):
            self.fail(_no_room())
        elif not self._discarding:
            self._chunks.append(data)
            self._held += size
            if self._held > READ_AHEAD and not self._wanted:
                self._source.hold_input()
            if self._event is not None:
                self._event.set()

    def end(self) -> None:
        """All of it has arrived."""
        self.more = False
        if self._event is not None:
            self._event.set()

    def fail(self, error: GatewayError) -> None:
        """The end will never come, or is not wanted; whoever reads is told. The first reason stays."""
        if self.fault is None:
            self.fault = error
            self.discard()
            self._tell()

    def close(self) -> None:
        """The client has left, or has its answer."""
        self.closed = True
        if self._weight:
            self._source.make_room(-self._weight)
            self._weight = 0
        if self._chunks or self.more:
            self.discard()
        if self._event is not None:
            self._event.set()

    def _weigh(self, received: int) -> bool:
        if self._discarding:
            return True
        found = self._source.make_room(received - self._weight)
        if found:
            self._weight = received
        return found

    def discard(self) -> None:
        """Keep nothing of what has arrived or will."""
        self._discarding = True
        self._take()

    # The reader's side.

    async def read(self, limit: int) -> bytes:
        """All of it, once. Raises GatewayError (see ResponseWriter.read_body) and ClientGone."""
        if limit < self._limit:
            self._limit = limit
            announced = max(self.received, self.length or 0)
            if announced > limit:
                self.fail(body_too_large(announced, limit))
        if self.more and self._awaited():
            self._wanted = True
            self._invite()
            while self._awaited():
                await self._news()
        if self.fault is not None or self.closed:
            self._check()
        chunks = self._take()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read_some(self) -> bytes:
        """What has arrived since the last call, waiting for it; b"" at the end. Raises as `read` does."""
        if not self._chunks and self._awaited():
            self._invite()
            while not self._chunks and self._awaited():
                await self._news()
        self._check()
        return b"".join(self._take())

    def weigh(self, size: int) -> None:
        """What was read has become `size` bytes: count it as that. Raises GatewayError (overloaded), ClientGone."""
        self._check()
        if size > READ_AHEAD and not self._weigh(size):
            raise _no_room()

    async def until_closed(self) -> None:
        """Wait until the exchange is over."""
        while not self.closed:
            await self._news()

    def _take(self) -> list[bytes]:
        """What is buffered, leaving nothing."""
        chunks, self._chunks = self._chunks, []
        if self._held > READ_AHEAD and not self.more and not self._wanted:
            # This body held the input back and is whole: what follows it can be read again.
            self._source.want_input()
        self._held = 0
        return chunks

    def _awaited(self) -> bool:
        return self.more and not self.closed and self.fault is None

    def _invite(self) -> None:
        if self._awaits_continue:
            self._awaits_continue = False
            self._source.send_continue()
        self._source.want_input()

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
        if self.closed:
            raise ClientGone("the client left before its request was read")

    async def _news(self) -> None:
        if self._event is None:
            self._event = asyncio.Event()
        self._event.clear()
        await self._event.wait()

    def _tell(self) -> None:
        if self._event is not None:
            self._event.set()


def _no_room() -> GatewayError:
    message = "the gateway has as many large requests as it has memory for; try again in a second"
    return GatewayError("overloaded", message, scope="gateway", retry_after_ms=1000)


def body_too_large(size: int, limit: int) -> GatewayError:
    """The refusal of a body of which `size` bytes are announced or have arrived."""
    message = (
        f"the request body is larger than {limit} bytes; send less, or ask the operator for a higher limit"
    )
    return GatewayError("body_too_large", message, scope="gateway", limit=Limit("body", size, limit))
