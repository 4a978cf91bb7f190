"""Chat Completions' `usage` with everything it says, in both directions."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import tier
from tollway.core.dialects.openai_chat.usage import read_usage
from tollway.core.exchange import Usage

NAME: Final = "openai_chat"
_THEIR_PRICE: Final = ("cost", "cost_details", "is_byok")


def read_counts(usage: dict[str, Any], service_tier: object = None) -> Usage:
    """Inclusive totals; the object itself, without the upstream's own price, goes home with them.

    `service_tier`: what the answer says beside it of how it was served.
    """
    kept = {name: value for name, value in usage.items() if name not in _THEIR_PRICE}
    return replace(
        read_usage(usage),
        tier=tier(service_tier),
        extras={NAME: kept},
    )


def write_counts(usage: Usage | None, bill: Bill | None) -> dict[str, Any]:
    """Totals with their parts, and what the call cost if there is a bill."""
    found = (bill.usage if bill is not None else None) or usage or Usage()
    own = found.extras.get(NAME, {})
    counts: dict[str, Any] = {
        **own,
        "prompt_tokens": found.input,
        "completion_tokens": found.output,
        "total_tokens": found.input + found.output,
        "prompt_tokens_details": {
            **_kept(own, "prompt_tokens_details"),
            "cached_tokens": found.cache_read,
            "audio_tokens": found.audio_in,
        },
        "completion_tokens_details": {
            **_kept(own, "completion_tokens_details"),
            "reasoning_tokens": found.reasoning,
            "audio_tokens": found.audio_out,
        },
    }
    written = found.cache_write + found.cache_write_1h
    if written:
        counts["prompt_tokens_details"]["cache_write_tokens"] = written
    if bill is not None and bill.cost is not None:
        counts["cost"] = bill.cost
    if bill is not None and bill.estimated:
        counts["estimated"] = True
    return counts


def _kept(own: dict[str, Any], name: str) -> dict[str, Any]:
    value = own.get(name)
    return value if type(value) is dict else {}
