"""Small changes to frames, and counts no provider should report: what the mouths' quirks are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame

BAD: Final[tuple[Any, ...]] = (-7, "12", 4.5)
ABSURD: Final[tuple[Any, ...]] = (2**63, 2**64 - 1, 1e30)


def changed(frame: Frame, **fields: Any) -> Frame:
    """The same frame with some fields of its payload replaced."""
    return Frame(frame.part, {**(frame.payload or {}), **fields}, frame.tokens)


def without(frame: Frame, *names: str) -> Frame:
    """The same frame without some fields of its payload."""
    kept = {name: value for name, value in (frame.payload or {}).items() if name not in names}
    return Frame(frame.part, kept, frame.tokens)


def nothing() -> Iterator[Frame]:
    """No frames: the stream of a mouth whose answers are always whole."""
    return iter(())
