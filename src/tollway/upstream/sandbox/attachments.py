"""What the sandbox can tell about an attachment without opening it: kind, format, size in pixels or bytes.

Nothing is ever fetched: a URL is named, not followed.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from tollway.upstream.sandbox.ask import Attachment

_URL_SHOWN: Final = 100
_HEADER_BYTES: Final = 65_536
_BASE64_PER_BYTE: Final = 4 / 3
_JPEG_FRAMES: Final = frozenset(
    {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
)


def image(url: str) -> Attachment:
    """An image by its data URL or address."""
    if not url.startswith("data:"):
        return Attachment("image", url[:_URL_SHOWN])
    head = _decoded_head(url.partition(",")[2])
    return Attachment("image", _image_about(head))


def audio(data: str, form: str) -> Attachment:
    """A sound in base64."""
    return Attachment("audio", f"{form[:16]}, {_decoded_size(data)} bytes")


def file(name: str, data: str) -> Attachment:
    """A file by its name, and its base64 or data URL where it came along."""
    named = name[:_URL_SHOWN] or "unnamed"
    if not data:
        return Attachment("file", named)
    return Attachment("file", f"{named}, {_decoded_size(data.rpartition(',')[2])} bytes")


def _decoded_size(data: str) -> int:
    return len(data) * 3 // 4 - data[-2:].count("=")


def _decoded_head(data: str) -> bytes:
    wanted = int(_HEADER_BYTES * _BASE64_PER_BYTE) // 4 * 4
    head = data[:wanted]
    try:
        return base64.b64decode(head[: len(head) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _image_about(head: bytes) -> str:
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return f"PNG, {_big(head[16:20])}x{_big(head[20:24])}"
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return f"GIF, {_little(head[6:8])}x{_little(head[8:10])}"
    if head.startswith(b"\xff\xd8"):
        return _jpeg_about(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_about(head)
    return "unknown format"


def _jpeg_about(head: bytes) -> str:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in _JPEG_FRAMES:
            return f"JPEG, {_big(head[at + 7 : at + 9])}x{_big(head[at + 5 : at + 7])}"
        at += 2 + _big(head[at + 2 : at + 4])
    return "JPEG"


def _webp_about(head: bytes) -> str:
    if head[12:16] == b"VP8X" and len(head) >= 30:
        return f"WebP, {_little(head[24:27]) + 1}x{_little(head[27:30]) + 1}"
    if head[12:16] == b"VP8 " and len(head) >= 30:
        return f"WebP, {_little(head[26:28]) & 0x3FFF}x{_little(head[28:30]) & 0x3FFF}"
    if head[12:16] == b"VP8L" and len(head) >= 25:
        bits = _little(head[21:25])
        return f"WebP, {(bits & 0x3FFF) + 1}x{(bits >> 14 & 0x3FFF) + 1}"
    return "WebP"


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
