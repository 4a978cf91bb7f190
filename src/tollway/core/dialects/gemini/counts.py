"""Gemini's usageMetadata, in both directions: it counts thoughts apart, we count them in."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import count
from tollway.core.exchange import Usage

NAME: Final = "gemini"
_COST: Final = ("cost", "costDetails")


def _modality(usage: dict[str, Any], name: str, modality: str, odd: list[str]) -> int:
    listed = usage.get(name)
    found = 0
    for one in listed if type(listed) is list else []:
        if type(one) is dict and one.get("modality") == modality:
            found += count(one, "tokenCount", odd)
    return found


def read_counts(usage: dict[str, Any]) -> Usage:
    """Inclusive totals: thoughts are output, and what the tools put into the prompt is input."""
    odd: list[str] = []
    thoughts = count(usage, "thoughtsTokenCount", odd)
    return Usage(
        input=count(usage, "promptTokenCount", odd) + count(usage, "toolUsePromptTokenCount", odd),
        output=count(usage, "candidatesTokenCount", odd) + thoughts,
        cache_read=count(usage, "cachedContentTokenCount", odd),
        reasoning=thoughts,
        audio_in=_modality(usage, "promptTokensDetails", "AUDIO", odd),
        audio_out=_modality(usage, "candidatesTokensDetails", "AUDIO", odd),
        image_in=_modality(usage, "promptTokensDetails", "IMAGE", odd),
        image_out=_modality(usage, "candidatesTokensDetails", "IMAGE", odd),
        anomalous=bool(odd),
        extras={NAME: {name: value for name, value in usage.items() if name not in _COST}},
    )


def write_counts(usage: Usage | None, bill: Bill | None = None) -> dict[str, Any]:
    """A usageMetadata object, with what the call cost if there is a bill. Zeros are left out, as upstream."""
    found = (bill.usage if bill is not None else None) or usage or Usage()
    own = found.extras.get(NAME, {})
    tools = own.get("toolUsePromptTokenCount")
    prompt = found.input - (tools if type(tools) is int else 0)
    counts: dict[str, Any] = {
        **own,
        "promptTokenCount": max(prompt, 0),
        "candidatesTokenCount": max(found.output - found.reasoning, 0),
        "totalTokenCount": found.input + found.output,
    }
    if found.cache_read:
        counts["cachedContentTokenCount"] = found.cache_read
    if found.reasoning:
        counts["thoughtsTokenCount"] = found.reasoning
    if bill is not None and bill.cost is not None:
        counts["cost"] = bill.cost
    if bill is not None and bill.estimated:
        counts["estimated"] = True
    return counts
