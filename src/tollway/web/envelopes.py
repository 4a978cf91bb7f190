"""Which error body callers of a path expect."""

from __future__ import annotations

from typing import Final, Literal

Envelope = Literal["openai", "gateway"]

OPENAI_ROOTS: Final = ("/v1", "/api/v1", "/openai/v1")
_OPENAI: Final = tuple(f"{root}/" for root in OPENAI_ROOTS)


def envelope_for(path: str) -> Envelope:
    """The error body for a path that no route claims."""
    return "openai" if path.startswith(_OPENAI) or path in OPENAI_ROOTS else "gateway"
