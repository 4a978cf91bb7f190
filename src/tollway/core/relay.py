"""What every relay does: upstream bytes in, client bytes and events out, whole or streamed alike.

Flows see no difference between a streamed and a whole answer, or between a native and a
translated one. A relay holds back whatever must carry the bill until `close` hands it over, so
that no client sees the end of an answer before the ledger has it.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from tollway.core.errors import GatewayError
from tollway.core.exchange import Event


class Count(Protocol):
    """What is counted of an answer, whether or not it becomes events: pieces, and their bytes."""

    chunks: int
    size: int


class Carrier(Protocol):
    """Knows the usual event of a stream well enough to pass it on as it came from the network."""

    def carry(self, segment: bytes, count: Count) -> bytes:
        """The HTTP/1.1 chunk with its framing that the client gets for such chunks of the upstream's; what they say is counted.

        b"" where each is not one whole usual event: then they are for `Relay.feed`, and nothing is counted.
        """
        ...


class Fed(Struct, frozen=True):
    """`out`: bytes the client may have now. `events`: what the upstream said."""

    out: bytes
    events: list[Event]


class Receipt(Struct, frozen=True):
    """What the final usage shows: what was charged, in credits, and whether counts are our own estimate."""

    cost: int | float
    estimated: bool
    input: int
    output: int


class BadAnswer(ValueError):
    """The upstream's answer is not in its dialect (HTML, broken JSON, ...); the message says how."""


class Relay(Protocol):
    """One answer on its way from an upstream to a client."""

    streamed: bool
    """Whether bytes go out before the end; a whole answer leaves by `close` alone."""
    content_type: bytes

    @property
    def carrier(self) -> Carrier | None:
        """What may carry the next chunk past `feed`; None where all must be fed."""
        ...

    @property
    def answer(self) -> dict[str, Any] | None:
        """After `close`: the whole answer as the client has it, where its dialect has an object for that; else None."""
        ...

    def feed(self, chunk: bytes) -> Fed:
        """Take body bytes as they came. Raises BadAnswer."""
        ...

    def end(self) -> Fed:
        """The upstream's body is complete. Raises BadAnswer if it is no complete answer."""
        ...

    def close(self, receipt: Receipt) -> bytes:
        """The last bytes for the client, after settlement."""
        ...

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """The last bytes of a stream that broke: the dialect's in-band error, no success terminator."""
        ...

    def keep_alive(self) -> bytes:
        """Bytes that keep the client waiting without meaning anything."""
        ...
