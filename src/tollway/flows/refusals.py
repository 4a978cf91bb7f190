"""What an upstream's refusal means: its status, words and wait, whichever dialect it was made in."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from tollway.core.dialects.base import FaultKind
from tollway.core.dialects.openai_chat.errors_native import retry_hint
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import DialectName, Failed
from tollway.core.json import decode
from tollway.core.routing.faults import Fault
from tollway.flows.clock import now_ms
from tollway.upstream.transport import UpstreamResponse

ERROR_BODY_MAX: Final = 64 * 1024
WAIT_MAX_S: Final = 10.0**9
"""The longest wait that is read from a header, in whichever unit; nobody waits that long."""

_STATUSES: Final[dict[FaultKind, int]] = {
    "authentication": 401,
    "credits": 402,
    "permission": 403,
    "rate_limit": 429,
    "overloaded": 529,
    "timeout": 504,
    "server": 500,
}
"""The status that says what a kind means, for bodies that say more than the status they came with."""

_SEALS: Final = re.compile(r"(?i)signature|encrypted.content")
"""Words of upstreams that do not know a signature or an encrypted thought for their own."""


async def read(response: UpstreamResponse, dialect: DialectName) -> Fault:
    """A response that is not 200, as a fault. Raises UpstreamFault."""
    body = await response.read_all(ERROR_BODY_MAX)
    now = now_ms()
    hint = _retry_after(response.header(b"retry-after-ms"), response.header(b"retry-after"), now)
    try:
        found: Any = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # An HTML page and the like is never quoted.
        return Fault("status", now, response.status, retry_after_ms=hint)
    told = DIALECTS[dialect].read_error(response.status, found)
    if hint is None:
        hint = told.retry_after_ms if told.retry_after_ms is not None else retry_hint(body)
    return Fault(
        "seal" if response.status == 400 and _SEALS.search(f"{told.code} {told.message}") else "status",
        now,
        _STATUSES.get(told.kind, response.status) if response.status < 500 else response.status,
        retry_after_ms=hint,
        code="context_length_exceeded" if told.kind == "context_length" else told.code or None,
        message=told.message,
    )


def in_band(failed: Failed) -> Fault:
    """An error inside an answer that began well, as a fault."""
    kind = failed.kind
    told = (failed.upstream or {}).get("status")
    if kind.isascii() and kind.isdigit():
        status = int(kind) if 400 <= int(kind) < 600 else 0
    elif type(told) is int and 400 <= told < 600:
        status = told
    else:
        status = next((number for word, number in _STATUSES.items() if word == kind), 0)
    return Fault("in_band", now_ms(), status, code=kind, message=failed.message)


def _retry_after(milliseconds: bytes | None, header: bytes | None, now: int) -> int | None:
    """`retry-after-ms`, else `Retry-After` in seconds or as a date, in milliseconds."""
    for text, scale in ((milliseconds, 1), (header, 1000)):
        if text is not None and text.strip().replace(b".", b"", 1).isdigit():
            return int(min(float(text), WAIT_MAX_S) * scale)
    if header is None:
        return None
    try:
        return max(0, int(parsedate_to_datetime(header.decode("latin-1")).timestamp() * 1000) - now)
    except (ValueError, OverflowError):
        return None
