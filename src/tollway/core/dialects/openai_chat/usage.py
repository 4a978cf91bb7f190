"""Chat Completions' `usage` object read into our inclusive totals."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tollway.core.dialects.counting import count, tier
from tollway.core.exchange import Usage

COUNT_MAX = 10**9


def _count(source: dict[str, Any], name: str) -> tuple[int, bool]:
    """A reported count and whether it was absurd. Absent and null are zero; anything else must be a sane int."""
    value = source.get(name)
    if value is None:
        return 0, False
    if type(value) is not int:
        return 0, True
    if 0 <= value <= COUNT_MAX:
        return value, False
    return (0 if value < 0 else COUNT_MAX), True


def read_told(source: dict[str, Any]) -> Usage:
    """The usage of a whole answer, or of the chunk that has it, with the tier that served the call."""
    found = read_usage(source["usage"])
    named = source.get("service_tier")
    served = tier(named) if named is not None else ""
    return replace(found, tier=served) if served else found


def _tools(usage: dict[str, Any], odd: list[str]) -> dict[str, int]:
    """What the tools of those upstreams did that count them: xAI its sources and calls, OpenRouter its searches."""
    details = usage.get("server_side_tool_usage_details")
    searched = (
        count(usage, "num_sources_used", odd)
        + count(usage.get("server_tool_use"), "web_search_requests", odd)
        + count(details, "web_search_calls", odd)
        + count(details, "x_search_calls", odd)
    )
    found = {
        "web_search": searched,
        "code_session": count(details, "code_interpreter_calls", odd),
        "file_search": count(details, "file_search_calls", odd),
    }
    return {name: uses for name, uses in found.items() if uses}


_TOLD = ("num_sources_used", "server_tool_use", "server_side_tool_usage_details")


def read_usage(usage: dict[str, Any]) -> Usage:
    """Counts clamped to 0..10^9; `anomalous` says that something had to be clamped."""
    found = _tokens(usage)
    if usage.keys().isdisjoint(_TOLD):
        return found
    odd: list[str] = []
    tools = _tools(usage, odd)
    return replace(found, tools=tools, anomalous=found.anomalous or bool(odd)) if tools or odd else found


def _tokens(usage: dict[str, Any]) -> Usage:
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if (prompt and type(prompt) is dict and any(prompt.values())) or (
        completion and type(completion) is dict and any(completion.values())
    ):
        return _detailed(
            usage,
            prompt if type(prompt) is dict else {},
            completion if type(completion) is dict else {},
        )
    total_in, total_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if (
        type(total_in) is type(total_out) is int
        and 0 <= total_in <= COUNT_MAX
        and 0 <= total_out <= COUNT_MAX
    ):
        return Usage(input=total_in, output=total_out)
    total_in, odd_in = _count(usage, "prompt_tokens")
    total_out, odd_out = _count(usage, "completion_tokens")
    return Usage(input=total_in, output=total_out, anomalous=odd_in or odd_out)


def _detailed(usage: dict[str, Any], prompt: dict[str, Any], completion: dict[str, Any]) -> Usage:
    total_in, odd_in = _count(usage, "prompt_tokens")
    total_out, odd_out = _count(usage, "completion_tokens")
    cached, odd_cached = _count(prompt, "cached_tokens")
    written, odd_written = _count(prompt, "cache_write_tokens")
    audio_in, odd_audio_in = _count(prompt, "audio_tokens")
    audio_out, odd_audio_out = _count(completion, "audio_tokens")
    reasoning, odd_reasoning = _count(completion, "reasoning_tokens")
    image_in, odd_image_in = _count(prompt, "image_tokens")
    image_out, odd_image_out = _count(completion, "image_tokens")
    if reasoning and usage.get("total_tokens") == total_in + total_out + reasoning:
        # xAI counts reasoning beside the completion; its total tells.
        total_out += reasoning
    return Usage(
        input=total_in,
        output=total_out,
        cache_read=cached,
        cache_write=written,
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
        image_in=image_in,
        image_out=image_out,
        anomalous=odd_in
        or odd_out
        or odd_cached
        or odd_written
        or odd_audio_in
        or odd_audio_out
        or odd_reasoning
        or odd_image_in
        or odd_image_out,
    )
