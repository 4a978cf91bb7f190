"""The Responses API's `usage`, in both directions."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import count
from tollway.core.exchange import Usage

NAME: Final = "openai_responses"
PRICE: Final = ("cost", "cost_details")


def read_counts(usage: dict[str, Any]) -> Usage:
    """Inclusive totals, as the API itself counts."""
    odd: list[str] = []
    inward, outward = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        input=count(usage, "input_tokens", odd),
        output=count(usage, "output_tokens", odd),
        cache_read=count(inward, "cached_tokens", odd),
        cache_write=count(inward, "cache_write_tokens", odd),
        reasoning=count(outward, "reasoning_tokens", odd),
        anomalous=bool(odd),
        extras={NAME: {name: value for name, value in usage.items() if name not in PRICE}},
    )


def write_counts(usage: Usage | None, bill: Bill | None = None) -> dict[str, Any]:
    """A usage object with every member its clients demand, and what the call cost if there is a bill."""
    found = (bill.usage if bill is not None else None) or usage or Usage()
    own = found.extras.get(NAME, {})
    inward, outward = own.get("input_tokens_details"), own.get("output_tokens_details")
    counts: dict[str, Any] = {
        **own,
        "input_tokens": found.input,
        "input_tokens_details": {
            **(inward if type(inward) is dict else {}),
            "cached_tokens": found.cache_read,
            "cache_write_tokens": found.cache_write + found.cache_write_1h,
        },
        "output_tokens": found.output,
        "output_tokens_details": {
            **(outward if type(outward) is dict else {}),
            "reasoning_tokens": found.reasoning,
        },
        "total_tokens": found.input + found.output,
    }
    if bill is not None and bill.cost is not None:
        counts["cost"] = bill.cost
    if bill is not None and bill.estimated:
        counts["estimated"] = True
    return counts
