"""Gemini's usageMetadata, in both directions: it counts thoughts apart, we count them in."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import COUNT_MAX, count
from tollway.core.exchange import Usage

NAME: Final = "gemini"
PRICE: Final = ("cost", "costDetails")


def _modalities(listed: object, odd: list[str]) -> tuple[int, int]:
    """Tokens of sound and of images in a list of counts by modality."""
    audio = image = 0
    for one in listed if type(listed) is list else ():
        modality = one.get("modality") if type(one) is dict else None
        if modality == "AUDIO":
            audio += count(one, "tokenCount", odd)
        elif modality == "IMAGE":
            image += count(one, "tokenCount", odd)
    return audio, image


def read_counts(usage: dict[str, Any]) -> Usage:
    """Inclusive totals: thoughts are output, and what the tools put into the prompt is input."""
    odd: list[str] = []
    inward, outward = usage.get("promptTokensDetails"), usage.get("candidatesTokensDetails")
    # Every chunk of a stream has totals, and few have all the parts: asking for them costs more than this.
    audio_in, image_in = _modalities(inward, odd) if inward else (0, 0)
    audio_out, image_out = _modalities(outward, odd) if outward else (0, 0)
    thoughts = count(usage, "thoughtsTokenCount", odd) if "thoughtsTokenCount" in usage else 0
    tools = count(usage, "toolUsePromptTokenCount", odd) if "toolUsePromptTokenCount" in usage else 0
    cached = count(usage, "cachedContentTokenCount", odd) if "cachedContentTokenCount" in usage else 0
    return Usage(
        input=count(usage, "promptTokenCount", odd) + tools,
        output=count(usage, "candidatesTokenCount", odd) + thoughts,
        cache_read=cached,
        reasoning=thoughts,
        audio_in=audio_in,
        audio_out=audio_out,
        image_in=image_in,
        image_out=image_out,
        anomalous=bool(odd),
        extras={NAME: _unpriced(usage)},
    )


def _unpriced(usage: dict[str, Any]) -> dict[str, Any]:
    if usage.keys().isdisjoint(PRICE):
        return dict(usage)
    return {name: value for name, value in usage.items() if name not in PRICE}


_NONE: Final = msgspec.Raw(b"null")


class Totals(Struct, rename="camel"):
    """A usageMetadata as it is in most chunks of a stream: plain counts, and what decides whether they are all."""

    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    cached_content_token_count: int = 0
    prompt_tokens_details: msgspec.Raw = _NONE
    candidates_tokens_details: msgspec.Raw = _NONE
    cost: msgspec.Raw = _NONE
    cost_details: msgspec.Raw = _NONE

    def priced(self) -> bool:
        """Whether the upstream says what it wants for it."""
        return self.cost is not _NONE or self.cost_details is not _NONE


def _apart(listed: msgspec.Raw) -> bool:
    """Whether a list by modality holds one that is priced apart."""
    if listed is _NONE:
        return False
    text = bytes(listed)
    return b"AUDIO" in text or b"IMAGE" in text


def read_totals(totals: Totals) -> Usage | None:
    """What `read_counts` would say, but for its extras, at a third of the cost; None where only that can tell."""
    prompt, candidates = totals.prompt_token_count, totals.candidates_token_count
    thoughts, tools = totals.thoughts_token_count, totals.tool_use_prompt_token_count
    cached = totals.cached_content_token_count
    if not 0 <= prompt | candidates | thoughts | tools | cached <= COUNT_MAX:
        return None
    if _apart(totals.prompt_tokens_details) or _apart(totals.candidates_tokens_details):
        return None
    return Usage(input=prompt + tools, output=candidates + thoughts, cache_read=cached, reasoning=thoughts)


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
