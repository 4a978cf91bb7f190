"""What an OpenAI-compatible upstream says when it refuses: its code and words, read with mistrust."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.core.json import decode

_CODE_MAX = 64
_HINT_NAMES = ("retry_after", "retry_after_seconds")


def _error(body: bytes) -> dict[str, Any]:
    try:
        found = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if type(found) is list and found:
        found = found[0]
    if type(found) is not dict:
        return {}
    error = found.get("error", found)
    if type(error) is str:
        return {"message": error}
    return error if type(error) is dict else {}


def error_of(body: bytes) -> tuple[str | None, str | None]:
    """The upstream's code and message. A body that is not JSON (an HTML page) has neither: it is never quoted."""
    error = _error(body)
    code = error.get("code") or error.get("type")
    message = error.get("message")
    return (
        str(code)[:_CODE_MAX] if type(code) in (str, int) else None,
        message if type(message) is str else None,
    )


def retry_hint(body: bytes) -> int | None:
    """A wait in milliseconds that some upstreams put into the error body instead of a header."""
    error = _error(body)
    for name in _HINT_NAMES:
        value = error.get(name)
        if isinstance(value, int | float) and 0 <= value <= 86_400:
            return int(value * 1000)
    return None
