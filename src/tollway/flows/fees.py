"""What a call asks for besides tokens, as far as the channels that may serve it will do it."""

from __future__ import annotations

from msgspec.structs import replace

from tollway.core.billing.fees import unpriced
from tollway.core.billing.rates import Rates
from tollway.core.dialects.asked import Asked
from tollway.core.dialects.checked import without_tools
from tollway.core.routing.choose import serving
from tollway.core.routing.models import Model
from tollway.core.terms import PLAIN, Terms
from tollway.flows.gate import Gate


def shed(gate: Gate, asked: Asked, model: Model, group: str) -> tuple[Asked, tuple[str, ...]]:
    """The request without what an upstream would run for a fee that the price has no rate for, and what that was.

    Coding agents offer such tools with every request, whether they need them or not: beside others
    they are left out, which is told. A request that is for such a tool is left as it is, and refused.
    """
    price = model.price
    if asked.terms is PLAIN or price is None:
        return asked, ()
    rates = price.rates if isinstance(price.rates, Rates) else Rates(price.rates)
    missing = unpriced(terms(gate, asked, model, group), rates)
    lighter = without_tools(asked, frozenset(tool.name for tool in missing)) if missing else None
    if lighter is None:
        return asked, ()
    return lighter, tuple(
        f"{tool.field}.{tool.name}: the model's price has no rate for it" for tool in missing
    )


def terms(gate: Gate, asked: Asked, model: Model, group: str) -> Terms:
    """The terms to hold a call by.

    Tools that the upstream runs are told to channels of the request's own dialect alone; translation
    leaves them out and says so. Where no such channel serves the model, they cost nothing.
    """
    found = asked.terms
    if found is PLAIN or not found.tools:
        return found
    home = asked.exchange().origin
    if any(one.channel.dialect == home for one in serving(model, gate.catalogue, group)):
        return found
    return replace(found, tools=())
