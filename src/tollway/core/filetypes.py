"""What kind of file some bytes are, by how they begin: what a server or a client says of them proves nothing.

Only what models take is known. A container that may hold sound or pictures is of the family that is
asked for, because its beginning does not tell.
"""

from __future__ import annotations

from typing import Final

IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
PDF: Final = "application/pdf"

_PDF_WITHIN: Final = 1024
"""Bytes that may precede a PDF's own beginning, as its readers allow."""
_CONTROL: Final = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\x1b") | {0x7F}
_STARTS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_EITHER: Final = {
    "audio": {"video/mp4": "audio/mp4", "video/webm": "audio/webm"},
    "video": {"audio/mp4": "video/mp4", "audio/ogg": "video/ogg"},
}


def file_type(data: bytes, family: str = "") -> str:
    """The media type of a file; "" if it is none of those known. `family`: audio or video, where that is open."""
    found = _file_type(data)
    return _EITHER.get(family, {}).get(found, found)


def plain_text(data: bytes) -> str | None:
    """The text that bytes are in UTF-8, without a byte order mark; None if they are no text."""
    if not _CONTROL.isdisjoint(data):
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _file_type(data: bytes) -> str:
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    if _is_mp3_frame(data[:3]):
        return "audio/mpeg"
    return PDF if b"%PDF-" in data[: _PDF_WITHIN + 5] else ""


def _is_mp3_frame(head: bytes) -> bool:
    """Whether bytes begin an MPEG layer III frame: sync, layer, and a rate of bits and samples that exist."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    return head[1] & 0x18 != 0x08 and head[2] & 0xF0 not in (0x00, 0xF0) and head[2] & 0x0C != 0x0C
