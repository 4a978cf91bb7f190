"""Gemini's usageMetadata, in both directions: it counts thoughts apart, we count them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import COUNT_MAX, count, tier
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


class Grounded:
    """What grounding did, by the metadata of a candidate. `tools`: uses by meter.

    Chunks of a stream repeat the metadata and add to it. Every different query is a search; a map
    that was asked counts once, because nothing tells how often.
    """

    __slots__ = ("_queries", "tools")

    def __init__(self) -> None:
        self.tools: dict[str, int] = {}
        self._queries: set[str] = set()

    def see(self, metadata: object) -> bool:
        """Take groundingMetadata. Returns whether something more is to be paid for."""
        if type(metadata) is not dict:
            return False
        before = dict(self.tools)
        asked: list[object] = []
        for name in ("webSearchQueries", "imageSearchQueries"):
            listed = metadata.get(name)
            asked += listed if type(listed) is list else []
        self._queries.update(one for one in asked if type(one) is str and one)
        chunks = metadata.get("groundingChunks")
        found = [one for one in chunks if type(one) is dict] if type(chunks) is list else []
        if self._queries or any("web" in one for one in found):
            self.tools["web_search"] = max(len(self._queries), 1)
        if any("maps" in one for one in found) or metadata.get("googleMapsWidgetContextToken"):
            self.tools["map_search"] = 1
        return self.tools != before


def read_counts(usage: dict[str, Any], tools: Mapping[str, int] | None = None) -> Usage:
    """Inclusive totals: thoughts are output, and what the tools put into the prompt is input.

    `tools`: what grounding did, by meter.
    """
    odd: list[str] = []
    inward, outward = usage.get("promptTokensDetails"), usage.get("candidatesTokensDetails")
    # Every chunk of a stream has totals, and few have all the parts: asking for them costs more than this.
    audio_in, image_in = _modalities(inward, odd) if inward else (0, 0)
    audio_out, image_out = _modalities(outward, odd) if outward else (0, 0)
    thoughts = count(usage, "thoughtsTokenCount", odd) if "thoughtsTokenCount" in usage else 0
    added = count(usage, "toolUsePromptTokenCount", odd) if "toolUsePromptTokenCount" in usage else 0
    cached = count(usage, "cachedContentTokenCount", odd) if "cachedContentTokenCount" in usage else 0
    return Usage(
        input=count(usage, "promptTokenCount", odd) + added,
        output=count(usage, "candidatesTokenCount", odd) + thoughts,
        cache_read=cached,
        reasoning=thoughts,
        audio_in=audio_in,
        audio_out=audio_out,
        image_in=image_in,
        image_out=image_out,
        tools=dict(tools) if tools else {},
        tier=_tier(usage.get("serviceTier"), usage.get("trafficType")),
        anomalous=bool(odd),
        extras={NAME: _unpriced(usage)},
    )


def _tier(service: object, traffic: object) -> str:
    """The tier that served it: Vertex tells it as the type of traffic."""
    if service is None and traffic is None:
        return ""
    return tier(service) or tier(traffic)


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
    service_tier: Any = None
    traffic_type: Any = None

    def priced(self) -> bool:
        """Whether the upstream says what it wants for it."""
        return self.cost is not _NONE or self.cost_details is not _NONE


def _apart(listed: msgspec.Raw) -> bool:
    """Whether a list by modality holds one that is priced apart."""
    if listed is _NONE:
        return False
    text = bytes(listed)
    return b"AUDIO" in text or b"IMAGE" in text


def read_totals(totals: Totals, tools: Mapping[str, int]) -> Usage | None:
    """What `read_counts` would say, but for its extras, at a third of the cost; None where only that can tell."""
    prompt, candidates = totals.prompt_token_count, totals.candidates_token_count
    thoughts, added = totals.thoughts_token_count, totals.tool_use_prompt_token_count
    cached = totals.cached_content_token_count
    if not 0 <= prompt | candidates | thoughts | added | cached <= COUNT_MAX:
        return None
    if _apart(totals.prompt_tokens_details) or _apart(totals.candidates_tokens_details):
        return None
    return Usage(
        input=prompt + added,
        output=candidates + thoughts,
        cache_read=cached,
        reasoning=thoughts,
        tools=dict(tools) if tools else {},
        tier=_tier(totals.service_tier, totals.traffic_type),
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
