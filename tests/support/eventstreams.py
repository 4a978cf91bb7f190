"""Amazon's event stream framing, written the way the service writes it."""

import base64
import json
import struct
from zlib import crc32


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message with string headers."""
    block = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    body = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return body + struct.pack(">I", crc32(body))


def chunk(event: dict | bytes) -> bytes:
    """An event of the dialect as Bedrock sends it, padding and all."""
    inner = event if isinstance(event, bytes) else json.dumps(event).encode()
    payload = json.dumps({"bytes": base64.b64encode(inner).decode(), "p": "abcdefghij"}).encode()
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return message(headers, payload)


def exception(kind: str, text: str) -> bytes:
    """What comes instead of the rest of a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"message": text}).encode())
