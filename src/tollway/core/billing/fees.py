"""What is held for what a request asks for besides tokens, and the refusal of what its price does not cover."""

from __future__ import annotations

from typing import Final

from tollway.core.billing.meters import has_rate, known_tier
from tollway.core.billing.rates import Rates
from tollway.core.errors import GatewayError
from tollway.core.terms import Terms, Tool

USES: Final = 5
"""Uses of a tool that are held for where the request does not limit them."""
TOOL_TOKENS: Final = 10_000
"""Input tokens that are held for each use of a tool: what it found is read by the model, and charged as input."""
DEAR_TIERS: Final = frozenset(("priority", "fast", "ultrafast", "scale", "us"))
"""Tiers for which upstreams take more than their usual price."""

_SEARCHES: Final = ("web_search", "grounded")
"""A price sells web searches one by one, or by the call that made any."""


def fee_lines(terms: Terms, rates: Rates) -> list[tuple[str, int, int]]:
    """What the tools of a request are held for: meter, uses at most, and the dearest due rate of one."""
    found = []
    for tool in terms.tools:
        uses = USES if tool.uses is None else tool.uses
        # A price per call is in every bound already.
        found += [
            (meter, 1 if meter == "grounded" else uses, rates.dearest_of(meter))
            for meter in _meters(tool)
            if meter != "call" and has_rate(meter, rates)
        ]
    return found


def fees(terms: Terms, rates: Rates) -> int:
    """The same as a sum of uses times due rates."""
    return sum(uses * rate for _, uses, rate in fee_lines(terms, rates))


def _meters(tool: Tool) -> tuple[str, ...]:
    if tool.meter == "web_search":
        return _SEARCHES
    return (tool.meter,) if tool.meter else ()


def unseen_tokens(terms: Terms) -> int:
    """Input tokens that tools may add to what the request shows."""
    return sum((USES if tool.uses is None else tool.uses) * TOOL_TOKENS for tool in terms.tools if tool.reads)


def admit(terms: Terms, rates: Rates, model: str) -> None:
    """Refuse what the price does not cover. Raises GatewayError (unsupported_parameter) naming the field and the fix."""
    for tool in terms.tools:
        _admit_tool(tool, rates, model)
    if terms.tier and known_tier(terms.tier, rates) != terms.tier:
        _admit_tier(terms, model)


def unpriced(terms: Terms, rates: Rates) -> tuple[Tool, ...]:
    """The tools that run for a fee which the price has no rate for."""
    return tuple(tool for tool in terms.tools if not _covered(tool, rates))


def _covered(tool: Tool, rates: Rates) -> bool:
    return tool.meter is None or any(has_rate(meter, rates) for meter in _meters(tool))


def _admit_tool(tool: Tool, rates: Rates, model: str) -> None:
    if _covered(tool, rates):
        return
    if not tool.meter:
        raise GatewayError(
            "unsupported_parameter",
            f"The tool {tool.name!r} is not accepted: it is billed at prices that no rate of the model {model!r} covers. "
            "Remove it.",
            param=tool.field,
            scope="model",
        )
    raise GatewayError(
        "unsupported_parameter",
        f"The tool {tool.name!r} runs at the upstream for a fee, and the price of the model {model!r} has no rate for it. "
        f"Remove the tool, or let the operator add one with tollway model price: --rate {tool.meter}=CREDITS "
        "(0 gives it away).",
        param=tool.field,
        scope="model",
    )


def _admit_tier(terms: Terms, model: str) -> None:
    dear = [part for part in terms.tier.split("-") if part in DEAR_TIERS]
    if not dear:
        # What costs an upstream less is sold at the usual price until one is set.
        return
    tier = terms.tier
    raise GatewayError(
        "unsupported_parameter",
        f"{terms.tier_field!r} may not ask for {dear[0]!r}: upstreams take more for it, and the price of the model "
        f"{model!r} has no rates for it. Use 'auto', 'default' or 'flex', or leave it out; the operator sets them with "
        f"--rate input:{tier}=... --rate output:{tier}=...",
        param=terms.tier_field,
        scope="model",
    )
