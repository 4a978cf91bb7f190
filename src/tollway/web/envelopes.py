"""Which error body callers of a path expect, and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError, gateway_envelope

Envelope = Literal["openai", "responses", "anthropic", "gemini", "gateway"]
Render = Callable[[GatewayError, str], tuple[int, dict[str, Any]]]

OPENAI_ROOTS: Final = ("/v1", "/api/v1", "/openai/v1")
ANTHROPIC_ROOTS: Final = ("/v1", "/api/v1", "/anthropic/v1")
GEMINI_ROOTS: Final = (
    "/v1beta",
    "/v1",
    "/v1alpha",
    "/api/v1beta",
    "/api/v1",
    "/gemini/v1beta",
    "/gemini/v1",
    "/gemini/v1alpha",
)

_PREFIXES: Final[tuple[tuple[str, Envelope], ...]] = (
    ("/anthropic/", "anthropic"),
    ("/v1/messages", "anthropic"),
    ("/api/v1/messages", "anthropic"),
    # A base URL that ends in /v1 is a frequent slip.
    ("/v1/v1/messages", "anthropic"),
    ("/gemini/", "gemini"),
    ("/v1beta/", "gemini"),
    ("/v1alpha/", "gemini"),
    ("/upload/", "gemini"),
    ("/api/v1beta/", "gemini"),
    *((f"{root}/", "openai") for root in OPENAI_ROOTS),
)


def envelope_for(path: str) -> Envelope:
    """The error body for a path that no route claims."""
    for prefix, envelope in _PREFIXES:
        if path.startswith(prefix):
            return envelope
    return "openai" if path in OPENAI_ROOTS else "gateway"


def _gateway(error: GatewayError, request_id: str) -> tuple[int, dict[str, Any]]:
    return error.status, gateway_envelope(error, request_id)


RENDER: Final[dict[Envelope, Render]] = {
    "openai": DIALECTS["openai_chat"].write_error,
    "responses": DIALECTS["openai_responses"].write_error,
    "anthropic": DIALECTS["anthropic"].write_error,
    "gemini": DIALECTS["gemini"].write_error,
    "gateway": _gateway,
}
