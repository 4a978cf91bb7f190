"""The seam between flows and the network: what an outgoing request and its response look like.

A transport relays and nothing else: it follows no redirect, decodes no body and keeps no cookie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

FaultKind = Literal[
    "dns",
    "connect",
    "tls",
    "connect_timeout",
    "write_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "reset",
    "protocol",
    "truncated",
    "too_large",
    "closed",
]


class Origin(Struct, frozen=True):
    """Where connections of one pool go. `host` is a DNS name or an IP literal without brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int


class Deadlines(Struct, frozen=True, kw_only=True):
    """Seconds allowed for each stage.

    `connect`: a place in the pool, the name, the connection and TLS. `write`: the upstream taking
    no byte of a request body. `first_byte`: from the request being written to the response head.
    `idle`: silence of the upstream within a body. `total`: everything, from `send` to the last byte.
    """

    connect: float = 5.0
    write: float = 60.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One request. `target` is path and query; `headers` must not name Host, Content-Length,
    Accept-Encoding or a hop-by-hop header: the transport writes those it needs (Accept-Encoding: identity).

    `replayable`: the request may be written a second time when a kept connection turns out to have
    been closed before it answered. A request whose repetition would do harm says False, and goes
    on a fresh connection, once.

    `head`: the finished head, where a `wire.Form` has written it; `target` and `headers` then only
    describe what the requests of that form share.

    `together`: it may be written at the end of the event loop's turn, in a row with others; see `outbox.py`.
    """

    origin: Origin
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    deadlines: Deadlines = Deadlines()
    replayable: bool = True
    head: bytes = b""
    together: bool = False


class UpstreamFault(Exception):
    """The exchange broke. `sent`: whether the upstream may have seen the request."""

    def __init__(self, kind: FaultKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sent = sent


Take = Callable[[bytes], bool]
"""Takes a piece of a body, b"" being its proper end; whether it wants no more for now."""
Carry = Callable[[bytes], bool | None]
"""Takes whole chunks of a body with their framing, as they came, likewise; None where it leaves that to others."""


def never(_segment: bytes) -> None:
    """Carries nothing."""


class UpstreamResponse(Protocol):
    """A response whose head has arrived; its body is pulled. Always `close` it."""

    status: int

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers in the order they came, their names in lower case."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        ...

    def arrived(self) -> bytes | None:
        """What `read_some` would return without waiting; None if it would wait. Raises UpstreamFault."""
        ...

    async def read_some(self) -> bytes:
        """All body bytes that have arrived since the last call, waiting for the first; b"" at the proper end.

        Raises UpstreamFault("truncated") when the body ends early, and timeouts by Deadlines.
        """
        ...

    async def pump(self, take: Take, carry: Carry = never) -> None:
        """Hand `take` what `read_some` would return, as it arrives, until it says True or was given b"".

        Cheaper than reading piece by piece: no task is woken for a piece. `carry` is asked first
        where whole chunks arrive. Raises what `take` and `carry` raise, and UpstreamFault. Cancelling
        it cuts the connection.
        """
        ...

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamFault("too_large") beyond `limit` bytes."""
        ...

    def close(self) -> None:
        """Give the connection back if the exchange is complete, else cut it at once. Idempotent, never blocks."""
        ...


class Transport(Protocol):
    """Sends requests. Cancelling `send` or a read cuts the connection at once."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Returns when the response head is here. Raises UpstreamFault."""
        ...

    async def close(self) -> None:
        """Cut every connection."""
        ...
