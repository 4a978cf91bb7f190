"""One spelling for every path and every host: what could be read two ways is not read at all.

A path that a proxy in front of us and the router behind us may understand differently is how one
route's check is passed with another route's name. So a path is either plain, or it is None.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

_PLAIN: Final = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,=:@]+)*/?")
_ENCODED: Final = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9A-Fa-f]{2})*")
_SLASH: Final = re.compile(rb"%2[Ff]")
_AMBIGUOUS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\;%]")
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)([^#]*)")
_HOST_MAX: Final = 262
_SHORT: Final = 128
"""Paths up to this length are remembered: routes are few, and callers' long paths are not worth it."""


def clean_path(raw_path: bytes) -> str | None:
    """The path routes are matched against, or None if no route may have it.

    None for empty and dot segments, `;` parameters, backslashes, control characters, `%25` and what
    is not UTF-8. An encoded slash stays `%2F`: it is part of a name (`/v1/models/vendor%2Fmodel`)
    and never separates segments.
    """
    return _short_path(raw_path) if len(raw_path) <= _SHORT else _clean(raw_path)


def _clean(raw_path: bytes) -> str | None:
    if _PLAIN.fullmatch(raw_path):
        return raw_path.decode("ascii") or None
    if b"%" not in raw_path or not _ENCODED.fullmatch(raw_path):
        return None
    return _decoded(raw_path)


_short_path = lru_cache(maxsize=1024)(_clean)


def _decoded(raw_path: bytes) -> str | None:
    try:
        pieces = [unquote_to_bytes(piece).decode("utf-8") for piece in _SLASH.split(raw_path)]
    except UnicodeDecodeError:
        return None
    if any(_AMBIGUOUS.search(piece) for piece in pieces):
        return None
    path = "%2F".join(pieces)
    segments = path[1:].split("/")
    if "" in segments[:-1]:
        return None
    # A dot segment hidden behind an encoded slash is one for whoever decodes later.
    parts = path.replace("%2F", "/").split("/")
    return None if "." in parts or ".." in parts else path


def valid_host(value: bytes) -> bool:
    """Whether a Host header is a name or an address with an optional port, and nothing else."""
    return len(value) <= _HOST_MAX and _well_formed(value)


@lru_cache(maxsize=256)
def _well_formed(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    if not found:
        return False
    address, port = found.groups()
    if port is not None and int(port) > 65535:
        return False
    if address is None:
        return True
    try:
        ipaddress.IPv6Address(address.decode("ascii"))
    except ValueError:
        return False
    return True


def origin_form(target: bytes, host: bytes | None) -> bytes | None:
    """Path and query of an absolute-form target, or None if it is malformed or names another host."""
    found = _ABSOLUTE.fullmatch(target)
    if not found or host is None or found[1].lower() != host.lower():
        return None
    rest = found[2]
    return rest if rest.startswith(b"/") else b"/" + rest
