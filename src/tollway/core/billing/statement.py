"""A bill taken apart: what each meter counted, at which rate, and how the sum became the charge.

The same arithmetic as `pricing.cost`, kept exact to the last digit, so that a customer can redo it
with pencil and paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from tollway.core.billing.meters import METERS, tier_of
from tollway.core.billing.money import MICRO
from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import UNITS, WHOLE, Rates, input_tokens


class Line(Struct, frozen=True, kw_only=True):
    """One meter of a bill. `price` is credits per `per` units; `credits` is their exact product, undiscounted."""

    meter: str
    unit: str
    quantity: int
    price: Decimal
    per: int
    credits: Decimal


class Statement(Struct, frozen=True, kw_only=True):
    """A bill: the exact `sum` of its lines, less `discount_percent`, is `exact`; `due` is that rounded up once.

    `due_micro` is `due` in micro-credits. All others are decimal credits.
    """

    lines: tuple[Line, ...]
    sum: Decimal
    discount_percent: Decimal
    exact: Decimal
    rounding: Decimal
    due: Decimal
    due_micro: int


def state(meters: Mapping[str, int], rates: Mapping[str, int], discount: int = 0) -> Statement:
    """The bill for disjoint counts at the rates of a price version. `discount`: hundredths of a percent."""
    plain = Rates(rates)
    size = input_tokens(meters)
    served = plain.of_tier(tier_of(meters))
    found = [_line(meter, count, served, size) for meter, count in meters.items()]
    total = sum(product for _, product in found)
    left = total * (WHOLE - discount)
    due = cost(meters, plain.less(discount))
    return Statement(
        lines=tuple(line for line, _ in found),
        sum=exact(total, UNITS * MICRO),
        discount_percent=exact(discount, 100),
        exact=exact(left, UNITS * MICRO * WHOLE),
        rounding=exact(due * UNITS * WHOLE - left, UNITS * MICRO * WHOLE),
        due=exact(due, MICRO),
        due_micro=due,
    )


def explains(due: int, held: int, charged: int, absorbed: int) -> bool:
    """Whether what was charged and absorbed follows from what was due: all of it, or as much as was held."""
    return charged + absorbed in (due, min(due, held))


def exact(numerator: int, divisor: int) -> Decimal:
    """A fraction over a power of ten as a decimal with all its digits, whatever decimal's precision is."""
    places = len(str(divisor)) - 1
    sign = "-" if numerator < 0 else ""
    digits = str(abs(numerator)).rjust(places + 1, "0")
    text = f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}".rstrip("0").rstrip(".")
    return Decimal(f"{sign}{text}")


def _line(counted: str, quantity: int, rates: Rates, size: int) -> tuple[Line, int]:
    rate = rates.at(size).get(counted)
    if rate is None:
        rate = rates.of_variant(counted)
    name = counted.partition(":")[0]
    meter = METERS.get(name)
    per = meter.per if meter else UNITS
    line = Line(
        meter=counted,
        unit=meter.units if meter else name,
        quantity=quantity,
        price=exact(rate * per, UNITS * MICRO),
        per=per,
        credits=exact(quantity * rate, UNITS * MICRO),
    )
    return line, quantity * rate
