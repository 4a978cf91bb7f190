"""Prices as people read them: credits and dollars per a stated unit, never a bare ratio."""

from __future__ import annotations

from typing import Any

from tollway.core.billing.meters import METERS, Meter
from tollway.core.billing.money import CREDITS_PER_USD, MICRO
from tollway.core.billing.rates import ANY, UNITS, RateKey, parse_key, tiers_of
from tollway.core.routing.models import Price


def price_view(price: Price | None) -> dict[str, Any] | None:
    """A price by meter: `{"input": {"credits": 3000, "usd": 3, "per": "1000000 input tokens"}}`.

    `variants` are rates of some sizes, qualities or resolutions only; `tiers` are rates of whole
    calls whose input exceeds so many tokens; `service_tiers` has the token rates of calls that were
    served on a tier, by its name; `discount_percent` is what this caller pays less.
    """
    if price is None:
        return None
    view: dict[str, Any] = {"version": price.version, "currency": "credits", **_rates_view(price.rates, "")}
    served = {tier: _rates_view(price.rates, tier) for tier in tiers_of(price.rates)}
    if served:
        view["service_tiers"] = served
    if price.discount:
        view["discount_percent"] = _number(price.discount, 100)
    return view


def _rates_view(all_rates: dict[str, int], tier: str) -> dict[str, Any]:
    """The rates of one tier of service, or of the plain price, by meter and by size."""
    rates: dict[str, dict[str, Any]] = {}
    tiers: dict[int, dict[str, Any]] = {}
    for key, rate in all_rates.items():
        found = parse_key(key)
        meter = METERS[found.meter]
        served = found.variant[0] if meter.by_size and found.variant else ""
        if served != tier or (tier and not meter.by_size):
            continue
        if found.above:
            tiers.setdefault(found.above, {})[found.meter] = {**_amount(rate, meter), "per": _per(meter)}
        elif found.variant and not served:
            entry = rates.setdefault(found.meter, {"per": _per(meter)})
            entry.setdefault("variants", []).append({**_qualified(found, meter), **_amount(rate, meter)})
        else:
            rates[found.meter] = {**_amount(rate, meter), **rates.get(found.meter, {}), "per": _per(meter)}
    if not tiers:
        return {"rates": rates}
    steps = [{"above_input_tokens": above, "rates": tiers[above]} for above in sorted(tiers)]
    return {"rates": rates, "tiers": steps}


def _amount(rate: int, meter: Meter) -> dict[str, Any]:
    # Rates are micro-credits per 10^6 units; a single image or second is shown by itself.
    scale = MICRO * (UNITS // meter.per)
    return {"credits": _number(rate, scale), "usd": _number(rate, scale * CREDITS_PER_USD)}


def _number(whole: int, parts: int) -> int | float:
    """For display only: an integer where it is one."""
    return whole // parts if whole % parts == 0 else whole / parts


def _per(meter: Meter) -> str:
    return f"1 {meter.unit}" if meter.per == 1 else f"{meter.per} {meter.units}"


def _qualified(key: RateKey, meter: Meter) -> dict[str, Any]:
    names = zip(meter.qualifiers, key.variant, strict=False)
    return {name: qualifier for name, qualifier in names if qualifier != ANY}
