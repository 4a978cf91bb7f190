"""Amounts and prices at the edge: decimal credits that people write, integer micro-credits inside."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tollway.core.billing.meters import METERS
from tollway.core.billing.money import AMOUNT_MAX, credits_text, parse_credits
from tollway.flows.admin.refusals import invalid, nearest

PROVISIONAL_INPUT: Final = Decimal(3000)
PROVISIONAL_OUTPUT: Final = Decimal(15000)
"""Credits per 10^6 tokens of a model nobody has priced yet ($3 and $15): dear, so that it is noticed."""

PROVISIONAL: Final = "provisional"
"""The `source` of a price version nobody chose."""


def shown(micro: int) -> Decimal:
    """Micro-credits as exact decimal credits."""
    return Decimal(credits_text(micro))


def micro(credits: Decimal | str, what: str = "an amount") -> int:  # noqa: A002 - the unit's name
    """Decimal credits as micro-credits. Refuses what is not finite, too fine or too large."""
    try:
        return parse_credits(str(credits))
    except ValueError as error:
        invalid(f"{_capital(what)} of {credits} is not possible", f"{_capital(str(error))}.")


def positive(credits: Decimal, what: str) -> int:  # noqa: A002 - the unit's name
    """Decimal credits as micro-credits, above zero."""
    found = micro(credits, what)
    if found <= 0:
        invalid(f"{_capital(what)} of {credits} is not possible", "It must be more than 0 credits.")
    return found


def rates(prices: dict[str, Decimal]) -> dict[str, int]:
    """Credits per 10^6 units of each meter as rates. Refuses unknown meters and negative prices."""
    found: dict[str, int] = {}
    for meter, price in prices.items():
        if meter not in METERS:
            near = nearest(meter, METERS)
            invalid(
                f"There is no meter {meter!r}",
                f"Did you mean {near[0]!r}?" if near else f"The meters are {', '.join(METERS)}.",
            )
        rate = micro(price, f"a price per 10^6 {meter}")
        if not 0 <= rate <= AMOUNT_MAX:
            invalid(f"A price of {price} for {meter} is not possible", "A price is not negative.")
        found[meter] = rate
    if not found:
        invalid("The price is empty", "A price names at least one meter.", "--input 3000 --output 15000")
    return found


def shown_rates(found: dict[str, int]) -> dict[str, Decimal]:
    """Rates as decimal credits per 10^6 units."""
    return {meter: shown(rate) for meter, rate in found.items()}


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
