"""Recognising a request head that came before on its connection, so that it need not be parsed again.

A client that keeps its connection repeats its head to the byte, but for the value of Content-Length.
Equal bytes mean equal requests, so the checked reading of the first is used for those after it. Only
heads are remembered that can be read in one way: lines that end in CRLF, one length, nothing that
changes how the connection goes on. Whatever is not recognised goes to the parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollway.web.head import Head, Headers

Scope = dict[str, Any]

MEMO: Final = "tollway.memo"
"""Where a scope keeps what handlers made of the head: one dictionary for all requests that repeat it."""

_SIZE_MAX: Final = 2048
"""What a connection may keep of its last head: idle connections are many."""
_DIGITS_MAX: Final = 9
_LENGTH: Final = b"\r\ncontent-length:"
_LENGTH_NAME: Final = b"content-length"


class Recall:
    """A head as it came, cut around the digits of its length, and what it was read as."""

    __slots__ = ("_digits_at", "_length_index", "_prefix", "_suffix", "_suffix_size", "path", "shared")

    def __init__(self, raw: bytes, digits: slice, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.shared: Mapping[str, Any] = scope
        """The scope of all requests with this head, but that its length is that of the first."""
        self._prefix = raw[: digits.start]
        self._suffix = raw[digits.stop :]
        self._digits_at = len(self._prefix)
        self._suffix_size = len(self._suffix)
        self._length_index = next(at for at, (name, _) in enumerate(scope["headers"]) if name == _LENGTH_NAME)

    def whole(self, data: bytes) -> bytes | None:
        """The body of the request that `data` is, from its first byte to its last; None where it is not, or `match` must tell.

        A length may be written in more forms than the one that nearly all clients write.
        """
        at = self._digits_at
        end = data.find(b"\r", at, at + _DIGITS_MAX + 1)
        if end < 0 or not data.startswith(self._prefix) or not data.startswith(self._suffix, end):
            return None
        body = data[end + self._suffix_size :]
        return body if data[at:end] == b"%d" % len(body) else None

    def match(self, data: bytes) -> tuple[int, bytes] | None:
        """Whether `data` begins with this head: where its body begins, and the digits of its length."""
        if not data.startswith(self._prefix):
            return None
        at = self._digits_at
        end = data.find(b"\r", at, at + _DIGITS_MAX + 1)
        digits = data[at:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._suffix, end):
            return None
        return end + self._suffix_size, digits

    def scope(self, digits: bytes) -> Scope:
        """The scope of a request with this head and a length of its own.

        Nothing in it that can change is shared, but for MEMO.
        """
        scope = {**self.shared}
        scope["headers"] = headers = scope["headers"].copy()
        headers[self._length_index] = (_LENGTH_NAME, digits)
        scope["state"] = scope["state"].copy()
        return scope


def learn(data: bytes, head: Head, scope: Scope) -> Recall | None:
    """Remember the head that `data` begins with, if it can be recognised by its bytes alone.

    `head` and `scope` are what it was read as, before any handler saw them. The caller sees to it
    that the request began with `data`, was HTTP/1.1, kept its connection and asked for no upgrade.
    """
    headers: Headers = scope["headers"]
    size = data.find(b"\r\n\r\n", 0, _SIZE_MAX) + 4
    if size < 4 or head.length is None or head.expects_continue:
        return None
    raw = data[:size]
    lines = raw.count(b"\r\n")
    # As many lines as there were headers, and no other line ends: there is no second way to read it.
    if lines != len(headers) + 2 or lines != raw.count(b"\n") or lines != raw.count(b"\r"):
        return None
    start = raw.lower().find(_LENGTH) + len(_LENGTH)
    end = raw.find(b"\r", start)
    value = raw[start:end]
    digits = value.strip(b" ")
    if start < len(_LENGTH) or value[-len(digits) :] != digits or int(digits) != head.length:
        return None
    own = {**scope, "headers": headers.copy(), "state": scope["state"].copy()}
    own.pop("extensions", None)
    return Recall(raw, slice(end - len(digits), end), own)
