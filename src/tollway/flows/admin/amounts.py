"""Amounts and prices at the edge: decimal credits that people write, integer micro-credits inside."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NoReturn

from tollway.core.billing.meters import METERS
from tollway.core.billing.money import MICRO, credits_text, parse_credits
from tollway.core.billing.rates import UNITS, check_rates, parse_key
from tollway.flows.admin.refusals import invalid, nearest

PROVISIONAL_INPUT: Final = Decimal(3000)
PROVISIONAL_OUTPUT: Final = Decimal(15000)
"""Credits per 10^6 tokens of a model nobody has priced yet ($3 and $15): dear, so that it is noticed."""

PROVISIONAL: Final = "provisional"
"""The `source` of a price version nobody chose."""

CATALOGUE: Final = "catalogue"
"""How the `source` of a price version from the catalogue of public models begins."""

_PRICE_MAX: Final = 1_000_000
_THOUSANDS: Final = re.compile(r"@([1-9][0-9]{0,6})k$")


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
    """Prices by rate key as rates: credits per 10^6 tokens or characters, per single unit of all else.

    Keys are those of core.billing.rates, whose thresholds may be written in thousands (`input@200k`).
    Refuses keys of unknown meters, prices that are negative or too fine, and rates that fall with size.
    """
    found: dict[str, int] = {}
    for written, price in prices.items():
        key = _THOUSANDS.sub(r"@\g<1>000", written)
        try:
            meter = parse_key(key).meter
        except ValueError as error:
            _no_such_rate(written, str(error))
        if key in found:
            invalid(f"The rate {key!r} is given twice", "A price has one rate for each key.")
        found[key] = _rate(price, meter, written)
    if not found:
        invalid(
            "The price is empty",
            "A price names at least one meter.",
            "--input-price 3000 --output-price 15000",
        )
    try:
        check_rates(found)
    except ValueError as error:
        invalid("These rates make no price", f"{_capital(str(error))}.")
    return found


def _no_such_rate(written: str, why: str) -> NoReturn:
    near = nearest(written.partition("@")[0].partition(":")[0], METERS)
    hint = f"Did you mean {near[0]!r}?" if near else f"The meters are {', '.join(METERS)}."
    if "no meter" in why:
        invalid(f"T{why[1:]}", hint)
    invalid(f"{written[:80]!r} is no rate", f"{_capital(why)}.", "--rate input@200k=2500")


def _rate(price: Decimal, meter: str, written: str) -> int:
    unit = METERS[meter]
    if not price.is_finite() or not 0 <= price <= _PRICE_MAX:
        invalid(
            f"A price of {price} for {written} is not possible",
            f"It is 0 to {_PRICE_MAX} credits per {unit.per} {unit.units if unit.per > 1 else unit.unit}.",
        )
    rate = price * MICRO * (UNITS // unit.per)
    if rate != rate.to_integral_value():
        invalid(
            f"A price of {price} for {written} is too fine",
            "A rate is a whole number of micro-credits per 10^6.",
        )
    return int(rate)


def shown_rates(found: dict[str, int]) -> dict[str, Decimal]:
    """Rates as people write them: credits per 10^6 tokens or characters, per single unit of all else."""
    return {key: shown_rate(key, rate) for key, rate in found.items()}


def shown_rate(key: str, rate: int) -> Decimal:
    """One rate as exact decimal credits per `Meter.per` units."""
    exact = Decimal(rate) / (MICRO * (UNITS // METERS[parse_key(key).meter].per))
    return Decimal(f"{exact.normalize():f}")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
