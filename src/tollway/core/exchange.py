"""The canonical exchange: what any dialect's answer means, as events and usage.

A relay yields these events whatever the upstream's dialect; billing, attempts and logs read
nothing else. Counts of `Usage` are inclusive totals (cached tokens are part of `input`,
reasoning tokens part of `output`); `core/billing/meters.py` makes them disjoint.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "error", "other"]


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts as the upstream reported them, clamped to sane integers."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    anomalous: bool = False


class Started(Struct, frozen=True):
    """The upstream accepted the request and named its answer."""

    id: str
    model: str


class Grew(Struct, frozen=True):
    """Content arrived: `size` bytes of UTF-8 text, reasoning or tool arguments."""

    size: int


class Counted(Struct, frozen=True):
    """Running totals of usage; the last one wins."""

    usage: Usage


class Finished(Struct, frozen=True):
    """One choice ended: `reason` in our words, `raw` in the upstream's."""

    reason: FinishReason
    raw: str


class Failed(Struct, frozen=True):
    """The upstream reported an error inside its answer, or the answer broke off."""

    kind: str
    message: str
    upstream: dict[str, Any] | None = None


Event = Started | Grew | Counted | Finished | Failed
