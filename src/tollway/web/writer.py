"""The short way from a handler to the socket, and the words a cancelled handler is told.

A cycle is one. An ASGI app finds it in its scope and may use it instead of `receive` and `send`; it
must not use both for one answer. A handler whose client leaves is cancelled: it needs no watcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

CLIENT_GONE: Final = "client gone"
"""The argument of the CancelledError in a handler whose client has left."""
DRAINING: Final = "draining"
"""The argument of the CancelledError in a handler that the drain did not wait for any longer."""

EXTENSION: Final = "tollway"

_BAD_NAME: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ClientGone(ConnectionError):
    """The client left while something was sent to it or read from it."""


class ResponseWriter(Protocol):
    """Writes one response. `headers` are header blocks: complete lines, each ending in CRLF.

    Content-Length, Transfer-Encoding, Connection and Date are the server's own and must not be in
    them. Once `gone`, everything but `read_body` does nothing. HEAD and HTTP/1.0 are seen to.
    """

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        ...

    @property
    def started(self) -> bool:
        """Whether the status line is on its way, so that the answer can no longer be another one."""
        ...

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """The whole response in one write."""
        ...

    def start(self, status: int, headers: bytes) -> None:
        """The head of a streamed response. What is left of the request body is thrown away."""
        ...

    def write(self, chunk: bytes) -> None:
        """One chunk in one write; an empty one is nothing. Never waits: see `drain`."""
        ...

    @property
    def chunked(self) -> bool:
        """Whether the response is sent in chunks, so that `write_framed` may be used."""
        ...

    def write_framed(self, chunk: bytes) -> bool:
        """One chunk that has its framing already; nothing where chunks are not sent (any more). Returns `congested`."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the client reads more slowly than we write, so that `drain` would wait."""
        ...

    async def drain(self) -> None:
        """Returns at once unless the client reads more slowly than we write."""
        ...

    def end(self, last: bytes = b"") -> None:
        """The last chunk, if any, and the end of the response, in one write."""
        ...

    def abort(self) -> None:
        """Cut the connection so that the client cannot take what it got for the whole."""
        ...

    async def read_body(self, limit: int) -> bytes:
        """The whole request body, once; b"" if there is none.

        Raises GatewayError: `body_too_large` beyond `limit` bytes or the server's own limit,
        `request_timeout` when it comes too slowly, `bad_request` when its framing is broken; and
        ClientGone.
        """
        ...

    def weigh(self, size: int) -> None:
        """The body has become `size` bytes in memory. Raises GatewayError (overloaded), ClientGone."""
        ...


def writer_of(scope: Mapping[str, Any]) -> ResponseWriter:
    """The writer of the request that a scope describes."""
    writer: ResponseWriter = scope["extensions"][EXTENSION]
    return writer


def header_block(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers for a writer. Raises ValueError for what would break out of its line."""
    block = b""
    for name, value in pairs:
        if not name or _BAD_NAME.search(name) or _BAD_VALUE.search(value):
            raise ValueError(f"not a header: {name[:64]!r}")
        block += b"%b: %b\r\n" % (name, value)
    return block
