"""What the head of a request must look like before anything else looks at it.

The parser below is strict about bytes; this module is strict about meaning. Whatever two servers
could frame differently (two lengths, a length beside a coding, a list of codings) is refused.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tollway.core.errors import GatewayError
from tollway.web.paths import clean_path, origin_form, valid_host

Headers = list[tuple[bytes, bytes]]

METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
ALLOW: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_WATCHED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_LENGTH_DIGITS: Final = 15
_SLASH: Final = 0x2F


class Head(Struct, frozen=True):
    """A checked request head. `length` is None when the body is chunked or there is none."""

    path: str
    raw_path: bytes
    query: bytes
    length: int | None
    chunked: bool
    expects_continue: bool


def read_head(method: bytes, version: str, target: bytes, headers: Headers) -> Head:
    """Check one request head; header names are lower-case. Raises GatewayError with the reason."""
    if method not in METHODS:
        raise GatewayError("method_not_allowed", f"the method is not allowed; use one of {ALLOW.decode()}")
    if version not in ("1.1", "1.0"):
        raise GatewayError("bad_request", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    found = dict(headers)
    if len(found) != len(headers):
        _check_repeated(headers)
    host = found.get(b"host")
    _check_host(host, version)
    length, chunked = _framing(found, version)
    raw_path, query = _split(target, host)
    path = clean_path(raw_path)
    if path is None:
        raise GatewayError(
            "unknown_route", "no route has a path with empty, dot or ambiguously encoded segments"
        )
    expects = b"expect" in found and version == "1.1" and found[b"expect"].lower() == b"100-continue"
    return Head(path, raw_path, query, length, chunked, expects)


def _check_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers if name in _WATCHED]
    for name in names:
        if names.count(name) > 1:
            raise GatewayError("bad_request", f"the header {name.decode()} appears more than once")


def _check_host(host: bytes | None, version: str) -> None:
    if host is None:
        if version == "1.1":
            raise GatewayError("bad_request", "the Host header is missing")
    elif not valid_host(host):
        raise GatewayError(
            "bad_request", "the Host header is not a host name or address with an optional port"
        )


def _framing(found: dict[bytes, bytes], version: str) -> tuple[int | None, bool]:
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise GatewayError(
                "bad_request", "Content-Length and Transfer-Encoding must not be sent together"
            )
        if version == "1.0" or coding.lower() != b"chunked":
            raise GatewayError("bad_request", "the only Transfer-Encoding understood is chunked, in HTTP/1.1")
        return None, True
    if length is None:
        return None, False
    if not length.isdigit() or len(length) > _LENGTH_DIGITS:
        raise GatewayError("bad_request", "Content-Length is not a plain decimal number")
    return int(length), False


def _split(target: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    if not target.isascii() or b"#" in target:
        raise GatewayError("bad_request", "the request target holds a fragment or characters outside ASCII")
    if target[0] != _SLASH:
        relative = origin_form(target, host)
        if relative is None:
            raise GatewayError(
                "bad_request", "the request target is neither a path nor a URL of the host in Host"
            )
        target = relative
    raw_path, _, query = target.partition(b"?")
    return raw_path, query
