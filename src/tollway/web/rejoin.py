"""Ignoring an upgrade: how a connection goes on in HTTP/1.1 when a request asked to leave it.

Java's client asks for HTTP/2 with its first request, body and all. The parser then stops after the
head and takes the body for the other protocol. So a new parser is told an equal head without the
wish, and reads on from there.
"""

from __future__ import annotations

from typing import Protocol

import httptools

from tollway.web.head import Head


class Callbacks(Protocol):
    """What httptools calls for a request."""

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class _AfterHead:
    """Passes on every callback except those of the first head."""

    def __init__(self, target: Callbacks) -> None:
        self._target = target
        self._muted = True
        self.on_body = target.on_body
        self.on_message_complete = target.on_message_complete

    def on_message_begin(self) -> None:
        if not self._muted:
            self._target.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self._target.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._muted:
            self._target.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._muted:
            self._muted = False
        else:
            self._target.on_headers_complete()


def rejoin(target: Callbacks, head: Head, *, keep_alive: bool) -> httptools.HttpRequestParser:
    """A parser that stands behind `head`, where the body begins, and calls `target` from there on."""
    parser = httptools.HttpRequestParser(_AfterHead(target))
    framing = b"transfer-encoding: chunked" if head.chunked else b"content-length: %d" % (head.length or 0)
    close = b"" if keep_alive else b"connection: close\r\n"
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n%b\r\n" % (framing, close))
    return parser
