"""The Responses API's `usage`, in both directions."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import Bill
from tollway.core.dialects.counting import count, tier
from tollway.core.exchange import Usage

NAME: Final = "openai_responses"
PRICE: Final = ("cost", "cost_details")


_RAN: Final = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_session",
    "shell_call": "code_session",
    "image_generation_call": "image",
}


def so_far(ran: Ran) -> Usage:
    """The counts when a tool has just run: its fee is due even if the end, which counts it all, never comes."""
    return Usage(tools=dict(ran.tools))


_QUALIFIERS: Final = re.compile(r"[a-z0-9][a-z0-9.x_-]{0,31}:[a-z0-9][a-z0-9.x_-]{0,31}")
_MEMORIES: Final = ("4g", "16g", "64g")


class Ran:
    """What the upstream's own tools did, by the items of an output. `tools`: uses by meter.

    A search counts where it searched: opening a page it had found is free. Code is sold by the
    container it runs in, and dearer where that has more than the usual memory.
    """

    __slots__ = ("_containers", "_ran_in", "_searched", "tools")

    def __init__(self, response: dict[str, Any] | None = None) -> None:
        self.tools: dict[str, int] = {}
        self._containers: set[str] = set()
        self._searched = "web_search"
        self._ran_in = "code_session"
        if response is not None:
            self.declared(response.get("tools"))
            listed = response.get("output")
            for item in listed if type(listed) is list else ():
                self.see(item)

    def declared(self, tools: object) -> None:
        """Take the tools that a response says it has: the older search and large containers have prices of their own."""
        for tool in tools if type(tools) is list else ():
            kind = tool.get("type") if type(tool) is dict else None
            if type(kind) is str and kind.startswith("web_search_preview"):
                self._searched = "web_search:preview"
            elif kind in ("code_interpreter", "shell"):
                room = tool.get("container") or tool.get("environment")
                memory = room.get("memory_limit") if type(room) is dict else None
                if memory in _MEMORIES:
                    self._ran_in = f"code_session:{memory}"

    def see(self, item: object) -> bool:
        """Take a complete item. Returns whether something more is to be paid for."""
        if type(item) is not dict:
            return False
        kind = item.get("type")
        meter = _RAN.get(kind) if type(kind) is str else None
        if meter is None:
            return False
        if meter == "web_search":
            action = item.get("action")
            done = action.get("type") if type(action) is dict else "search"
            if done not in (None, "search"):
                return False
            meter = self._searched
        elif meter == "image":
            if not item.get("result"):
                return False
            meter = _picture(item)
        elif meter == "code_session":
            container = _container(item)
            if not container or container in self._containers:
                return False
            self._containers.add(container)
            meter = self._ran_in
        self.tools[meter] = self.tools.get(meter, 0) + 1
        return True


def _picture(item: dict[str, Any]) -> str:
    """The key a picture is counted under: with its size and quality, where the item tells both."""
    size, quality = item.get("size"), item.get("quality")
    told = type(size) is str and type(quality) is str and _QUALIFIERS.fullmatch(f"{size}:{quality}")
    return f"image:{size}:{quality}" if told else "image"


def _container(item: dict[str, Any]) -> str:
    """The upstream's container that code ran in; "" for a shell of the client's own."""
    if item.get("type") == "code_interpreter_call":
        return str(item.get("container_id") or "auto")
    environment = item.get("environment")
    named = environment.get("container_id") if type(environment) is dict else None
    return named if type(named) is str else ""


def read_total(response: dict[str, Any], seen: Ran | None = None) -> Usage:
    """The counts of a complete response that has a usage: its tokens, its tools and the tier that served it.

    `seen`: what its tools did by the items that were streamed, for upstreams that do not repeat them.
    """
    usage = read_counts(response["usage"])
    served = tier(response.get("service_tier"))
    tools = Ran(response).tools or (dict(seen.tools) if seen is not None else {})
    told = response.get("tool_usage")
    searched = told.get("web_search") if type(told) is dict else None
    told_odd: list[str] = []
    requests = count(searched, "num_requests", told_odd)
    if requests:
        name = next((name for name in tools if name.startswith("web_search")), "web_search")
        tools[name] = requests
    if not (served or tools or told_odd):
        return usage
    return replace(usage, tools=tools, tier=served, anomalous=usage.anomalous or bool(told_odd))


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
