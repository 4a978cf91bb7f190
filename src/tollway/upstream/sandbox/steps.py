"""What a connection is told to do, byte by byte: the language in which answers and faults are written.

A response is an iterator of steps, beginning with a Head unless it breaks off before. When it runs
out the body is ended properly for its framing. Whoever plays the steps asks for the next one only
when the last one is on its way, so a script that waits for nothing still generates no more than
the reader takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from tollway.core.json import encode

Headers = tuple[tuple[str, str], ...]

JSON: Final[Headers] = (("content-type", "application/json"),)


class Head(Struct, frozen=True):
    """Status and headers. `length`: Content-Length, or None for chunks; `until_close`: neither."""

    status: int
    headers: Headers = ()
    length: int | None = None
    until_close: bool = False


class Data(Struct, frozen=True):
    """Body bytes, framed as the head said. `tokens`: how many were generated for them."""

    payload: bytes
    tokens: int = 0


class Raw(Struct, frozen=True):
    """Bytes as they are, framed by nobody."""

    payload: bytes


class Pause(Struct, frozen=True):
    """Wait that many seconds."""

    seconds: float


class Drip(Struct, frozen=True):
    """From now on write single bytes, that many seconds apart."""

    seconds: float


class Silence(Struct, frozen=True):
    """Say nothing more and keep the connection open until the client leaves."""


class Hangup(Struct, frozen=True):
    """Close the connection where it stands: in order, or by a reset."""

    reset: bool = False


Step = Head | Data | Raw | Pause | Drip | Silence | Hangup
Steps = Iterator[Step]


def whole(status: int, headers: Headers, body: bytes, tokens: int = 0) -> Steps:
    """A response of known length."""
    return iter((Head(status, headers, len(body)), Data(body, tokens)))


def json_response(value: object, status: int = 200) -> Steps:
    """A response with a JSON body."""
    return whole(status, JSON, encode(value))
