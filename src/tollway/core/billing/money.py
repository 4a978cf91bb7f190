"""Credits as integers: one credit is 10^6 micro-credits, and one credit is $0.001.

Every amount in the code is an `int` of micro-credits; only the edges (CLI, JSON for people)
turn it into decimal credits. Nothing here is ever a float.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

MICRO: Final = 1_000_000
CREDITS_PER_USD: Final = 1000
AMOUNT_MAX: Final = 10**15
"""The largest single amount, in micro-credits; the database refuses more."""
_PLACES: Final = len(str(AMOUNT_MAX // MICRO))


def credits_text(micro: int) -> str:
    """Micro-credits as decimal credits without trailing zeros: 1500000 -> '1.5'."""
    if micro < 0:
        return f"-{credits_text(-micro)}"
    rest = micro % MICRO
    return f"{micro // MICRO}.{rest:06d}".rstrip("0") if rest else str(micro // MICRO)


def credits_number(micro: int) -> int | float:
    """Micro-credits as the number JSON shows. Exact up to 2^53 micro-credits; display only, never arithmetic."""
    return micro / MICRO if micro % MICRO else micro // MICRO


def parse_credits(text: str) -> int:
    """Decimal credits as micro-credits. Raises ValueError on anything finer, larger or not a number."""
    try:
        value = Decimal(text.strip().replace("_", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number of credits") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a number of credits")
    # By its first digit's place, because arithmetic has no room for 1e999999999.
    place = value.adjusted() if value else 0
    micro = value * MICRO if -7 < place < _PLACES else value
    if place >= _PLACES or abs(micro) > AMOUNT_MAX:
        raise ValueError(f"an amount is at most {AMOUNT_MAX // MICRO} credits")
    if micro != micro.to_integral_value():
        raise ValueError("a credit has at most six decimal places")
    return int(micro)
