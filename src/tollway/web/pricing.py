"""Prices as people read them: credits and dollars per a stated unit, never a bare ratio."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.billing.meters import METERS
from tollway.core.billing.money import CREDITS_PER_USD, credits_number
from tollway.core.routing.models import Price

_SINGLE: Final = frozenset({"image", "song", "call", "video_second", "audio_second"})


def price_view(price: Price | None) -> dict[str, Any] | None:
    """A price by meter: `{"input": {"credits": 3, "usd": 0.003, "per": "1000000 input tokens"}}`."""
    if price is None:
        return None
    rates: dict[str, Any] = {}
    for meter, rate in price.rates.items():
        unit = METERS[meter]
        if meter in _SINGLE:
            # Rates are per 10^6 units; a single image or second is shown by itself.
            micro, per = rate // 1_000_000, f"1 {unit.unit}"
        else:
            micro, per = rate, f"1000000 {unit.units}"
        amount = credits_number(micro)
        rates[meter] = {"credits": amount, "usd": amount / CREDITS_PER_USD, "per": per}
    return {"version": price.version, "currency": "credits", "rates": rates}
