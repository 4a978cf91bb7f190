"""Messages' `usage`, in both directions: Anthropic counts cached tokens apart, we count them in."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import count
from tollway.core.exchange import Usage

NAME: Final = "anthropic"
PRICE: Final = ("cost", "cost_details")


def read_counts(usage: dict[str, Any]) -> Usage:
    """Inclusive totals of a usage object, whose members are the latest the upstream said."""
    odd: list[str] = []
    read = count(usage, "cache_read_input_tokens", odd)
    created = count(usage, "cache_creation_input_tokens", odd)
    split = usage.get("cache_creation")
    hour = min(count(split, "ephemeral_1h_input_tokens", odd), created) if type(split) is dict else 0
    if type(split) is dict and not created:
        hour = count(split, "ephemeral_1h_input_tokens", odd)
        created = hour + count(split, "ephemeral_5m_input_tokens", odd)
    tools = usage.get("server_tool_use")
    requests = sum(count(tools, name, odd) for name in tools) if type(tools) is dict else 0
    return Usage(
        input=count(usage, "input_tokens", odd) + read + created,
        output=count(usage, "output_tokens", odd),
        cache_read=read,
        cache_write=created - hour,
        cache_write_1h=hour,
        reasoning=count(usage.get("output_tokens_details"), "thinking_tokens", odd),
        tool_requests=requests,
        anomalous=bool(odd),
        extras={NAME: {name: value for name, value in usage.items() if name not in PRICE}},
    )


def write_counts(usage: Usage | None, bill: Bill | None = None) -> dict[str, Any]:
    """A usage object, with what the call cost if there is a bill."""
    found = (bill.usage if bill is not None else None) or usage or Usage()
    written = found.cache_write + found.cache_write_1h
    counts: dict[str, Any] = {
        **found.extras.get(NAME, {}),
        "input_tokens": max(found.input - found.cache_read - written, 0),
        "output_tokens": found.output,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": found.cache_read,
    }
    if found.cache_write_1h or "cache_creation" in counts:
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": found.cache_write,
            "ephemeral_1h_input_tokens": found.cache_write_1h,
        }
    if found.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": found.reasoning}
    if bill is not None and bill.cost is not None:
        counts["cost"] = bill.cost
    if bill is not None and bill.estimated:
        counts["estimated"] = True
    return counts
