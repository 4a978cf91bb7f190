"""Chat Completions' `usage` object read into our inclusive totals."""

from __future__ import annotations

from typing import Any

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


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    found = usage.get(name)
    return found if type(found) is dict else {}


def read_usage(usage: dict[str, Any]) -> Usage:
    """Counts clamped to 0..10^9; `anomalous` says that something had to be clamped."""
    prompt, completion = (
        _details(usage, "prompt_tokens_details"),
        _details(usage, "completion_tokens_details"),
    )
    total_in, odd_in = _count(usage, "prompt_tokens")
    total_out, odd_out = _count(usage, "completion_tokens")
    if not any(prompt.values()) and not any(completion.values()):
        return Usage(input=total_in, output=total_out, anomalous=odd_in or odd_out)
    cached, odd_cached = _count(prompt, "cached_tokens")
    written, odd_written = _count(prompt, "cache_write_tokens")
    audio_in, odd_audio_in = _count(prompt, "audio_tokens")
    audio_out, odd_audio_out = _count(completion, "audio_tokens")
    reasoning, odd_reasoning = _count(completion, "reasoning_tokens")
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
        anomalous=odd_in
        or odd_out
        or odd_cached
        or odd_written
        or odd_audio_in
        or odd_audio_out
        or odd_reasoning,
    )
