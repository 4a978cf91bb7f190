"""Messages' `usage`, in both directions: Anthropic counts cached tokens apart, we count them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import count, tier
from tollway.core.exchange import Usage

NAME: Final = "anthropic"
PRICE: Final = ("cost", "cost_details")


_CODE: Final = frozenset(("code_execution", "bash_code_execution", "text_editor_code_execution"))


def ran(block: object) -> str:
    """The meter of what a block of an answer says the upstream's own tools did; "" if nothing that is priced."""
    if type(block) is not dict or block.get("type") != "server_tool_use":
        return ""
    name = block.get("name")
    if name == "web_search":
        return "web_search"
    return "code_session" if name in _CODE else ""


def ran_in(content: object) -> dict[str, int]:
    """What the upstream's own tools did, by the blocks of a whole answer."""
    found: dict[str, int] = {}
    for block in content if type(content) is list else ():
        note(ran(block), found)
    return found


def note(meter: str, found: dict[str, int]) -> bool:
    """Count one more use. All code of a call runs in one session. Returns whether the count changed."""
    if not meter or (meter == "code_session" and meter in found):
        return False
    found[meter] = found.get(meter, 0) + 1
    return True


def read_counts(usage: dict[str, Any], seen: Mapping[str, int] | None = None) -> Usage:
    """Inclusive totals of a usage object, whose members are the latest the upstream said.

    `seen`: what its tools did by the blocks that came; what it counts itself goes before that.
    """
    odd: list[str] = []
    read = count(usage, "cache_read_input_tokens", odd)
    created = count(usage, "cache_creation_input_tokens", odd)
    fresh, output = count(usage, "input_tokens", odd), count(usage, "output_tokens", odd)
    split = usage.get("cache_creation")
    hour = min(count(split, "ephemeral_1h_input_tokens", odd), created) if type(split) is dict else 0
    if type(split) is dict and not created:
        hour = count(split, "ephemeral_1h_input_tokens", odd)
        created = hour + count(split, "ephemeral_5m_input_tokens", odd)
    for one in _left_out(usage.get("iterations")):
        fresh += count(one, "input_tokens", odd)
        read += count(one, "cache_read_input_tokens", odd)
        created += count(one, "cache_creation_input_tokens", odd)
        output += count(one, "output_tokens", odd)
    return Usage(
        input=fresh + read + created,
        output=output,
        cache_read=read,
        cache_write=created - hour,
        cache_write_1h=hour,
        reasoning=count(usage.get("output_tokens_details"), "thinking_tokens", odd),
        tools=_tools(usage.get("server_tool_use"), seen, odd),
        tier=tier(usage.get("speed"), usage.get("service_tier"), usage.get("inference_geo")),
        anomalous=bool(odd),
        extras={NAME: {name: value for name, value in usage.items() if name not in PRICE}},
    )


def so_far(usage: dict[str, Any], seen: Mapping[str, int]) -> Usage:
    """The counts when a tool has just run: its fee is due even if the end never comes.

    No output is counted: what was told of it lags behind, and would pass for the total of what has come.
    """
    return replace(read_counts(usage, seen), output=0, reasoning=0)


def _tools(said: object, seen: Mapping[str, int] | None, odd: list[str]) -> dict[str, int]:
    found = dict(seen) if seen else {}
    searches = count(said, "web_search_requests", odd)
    if searches:
        found["web_search"] = searches
    if "web_search" in found or count(said, "web_fetch_requests", odd):
        # Code that sorts what was found on the web is not charged.
        found.pop("code_session", None)
    return found


def _left_out(iterations: object) -> list[dict[str, Any]]:
    """The passes that the totals leave out, though they are billed: those that summed up the conversation."""
    listed = iterations if type(iterations) is list else []
    return [one for one in listed if type(one) is dict and one.get("type") == "compaction"]


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
