"""The one place that finds the caller's API key in a request.

Every dialect has a header of its own for the same credential. All are read on every route; the
same key twice is fine, two different keys are an error, because guessing which one a caller meant
has let others' restrictions be skipped.
"""

from __future__ import annotations

from typing import Final

from tollway.core.errors import GatewayError

HEADERS: Final = {
    b"authorization": "Authorization",
    b"x-api-key": "x-api-key",
    b"x-goog-api-key": "x-goog-api-key",
}
_BEARER: Final = b"bearer "


def find(headers: list[tuple[bytes, bytes]], in_query: str | None = None) -> str:
    """The key as sent, not yet checked. `in_query`: a key the URL holds, where that is allowed.

    Raises GatewayError when there is none, or two.
    """
    found: bytes | None = in_query.encode("utf-8", "replace") if in_query else None
    for name, value in headers:
        if name not in HEADERS:
            continue
        if name == b"authorization":
            value = _bearer(value)
        value = value.strip()
        if not value or value == found:
            continue
        if found is not None:
            raise GatewayError(
                "conflicting_credentials",
                "The request carries two different API keys. Send one, in Authorization, x-api-key or x-goog-api-key.",
            )
        found = value
    if found is None:
        raise GatewayError(
            "missing_api_key",
            "No API key was sent. Send one as 'Authorization: Bearer <key>', 'x-api-key: <key>' or 'x-goog-api-key: <key>'.",
        )
    return found.decode("latin-1")


def _bearer(value: bytes) -> bytes:
    if value[:7].lower() == _BEARER:
        return value[7:]
    if not value.strip():
        return b""
    raise GatewayError(
        "invalid_api_key",
        "The Authorization header is not of the form 'Bearer <key>'.",
    )
