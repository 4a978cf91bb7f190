"""Amazon's binary event framing, decoded into the server-sent events it carries.

A message is `length | headers length | CRC of both | headers | payload | CRC of all`, numbers in
big-endian 32 bits. Bedrock puts one event of the dialect, in base64, into the payload of a message
of the type "chunk"; what goes wrong after the head of the response comes as an exception message.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any, Final
from zlib import crc32

import msgspec

from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer

MESSAGE_MAX: Final = 24 * 1024 * 1024
_PRELUDE: Final = 12
_TRAILER: Final = 4
_STRING: Final = 7
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; types 6 and 7 carry their own length."""

_FAULTS: Final = {
    "throttlingException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "modelTimeoutException": "timeout_error",
    "validationException": "invalid_request_error",
}


class EventStream:
    """Feed it chunks cut anywhere; it returns the events that are complete, as server-sent events.

    Raises BadAnswer for a damaged message, after which it is of no more use.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()

    def __call__(self, chunk: bytes) -> bytes:
        waiting = self._waiting
        waiting += chunk
        out: list[bytes] = []
        at = 0
        while len(waiting) - at >= _PRELUDE:
            size = _checked_size(waiting, at)
            if len(waiting) - at < size:
                break
            out.append(_event(bytes(waiting[at : at + size])))
            at += size
        del waiting[:at]
        return b"".join(out)


def _checked_size(waiting: bytearray, at: int) -> int:
    size, headers, told = struct.unpack_from(">III", waiting, at)
    if crc32(waiting[at : at + 8]) != told:
        raise BadAnswer("a message of its event stream has a damaged head")
    if size > MESSAGE_MAX or headers > size - _PRELUDE - _TRAILER:
        raise BadAnswer("a message of its event stream has an impossible size")
    return int(size)


def _event(message: bytes) -> bytes:
    if crc32(message[:-_TRAILER]) != struct.unpack(">I", message[-_TRAILER:])[0]:
        raise BadAnswer("a message of its event stream is damaged")
    length = struct.unpack_from(">I", message, 4)[0]
    headers = _headers(message[_PRELUDE : _PRELUDE + length])
    payload = message[_PRELUDE + length : -_TRAILER]
    kind = headers.get(":message-type", "event")
    if kind != "event":
        return _failure(headers, payload)
    if headers.get(":event-type") != "chunk":
        return b""
    return _chunk(payload)


def _headers(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            end = at + 1 + block[at]
            name, kind, at = block[at + 1 : end].decode(), block[end], end + 1
            if kind in (6, _STRING):
                size = struct.unpack_from(">H", block, at)[0]
                at += 2
            else:
                size = _SIZES[kind]
            if at + size > len(block):
                raise BadAnswer("a message of its event stream has headers beyond its end")
            if kind == _STRING:
                found[name] = block[at : at + size].decode()
            at += size
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise BadAnswer("a message of its event stream has headers nobody understands") from None
    return found


def _chunk(payload: bytes) -> bytes:
    inner = _object(payload).get("bytes")
    try:
        data = base64.b64decode(inner, validate=True) if type(inner) is str else None
    except (binascii.Error, ValueError):
        data = None
    if data is None:
        raise BadAnswer("a chunk of its event stream holds no event")
    kind = _object(data).get("type")
    # What is inside is sent on anew, so that no line break in it can become an event of its own.
    return _written(kind if type(kind) is str else "", _object(data))


def _failure(headers: dict[str, str], payload: bytes) -> bytes:
    name = headers.get(":exception-type") or headers.get(":error-code") or ""
    told = headers.get(":error-message")
    if told is None:
        try:
            message = _object(payload).get("message")
        except BadAnswer:
            message = None
        told = message if type(message) is str else "the upstream gave no reason"
    error = {"type": _FAULTS.get(name, "api_error"), "message": f"{name}: {told}" if name else told}
    return _written("error", {"type": "error", "error": error})


def _written(kind: str, value: dict[str, Any]) -> bytes:
    name = b"event: " + kind.encode() + b"\n" if kind.isidentifier() else b""
    return name + b"data: " + encode(value) + b"\n\n"


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if type(value) is not dict:
        raise BadAnswer("a message of its event stream is not a JSON object")
    return value
