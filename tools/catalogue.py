"""Builds the catalogue of public models that Tollway ships: `python tools/catalogue.py [--check]`.

Token prices come from the installed `genai-prices`, which is needed only here; what it lacks comes
from `catalogue_facts.toml` (what models can do, fees of tools, tiers) and `catalogue_rows.toml`
(pictures, films, music, speech). The same inputs give the same bytes. `--check` changes nothing and fails if the shipped
file differs.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from tollway.core.billing.meters import METERS
from tollway.core.billing.rates import UNITS, check_rates, parse_key

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "src" / "tollway" / "data" / "catalogue.json"
PINNED: Final = "0.2.3"
AS_OF: Final = datetime(2026, 11, 10, tzinfo=UTC)
"""The day genai-prices 0.2.3 was published: prices that change on a date are taken as of this one."""

MICRO_PER_USD: Final = 1000 * 1_000_000
PER_MILLION: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_in",
    "output_audio_mtok": "audio_out",
    "input_image_mtok": "image_token_in",
    "output_image_mtok": "image_token_out",
    "input_mchars": "character",
}
PER_THOUSAND: Final = {
    "requests_kcount": "call",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
}
UNPRICED: Final = {"cache_audio_read_mtok", "cache_image_read_mtok"}
"""Prices that are left out of a row: cached sound and pictures count as cached."""
GROUNDED: Final = ("gemini-2.*",)
"""Google's models whose searches are sold by the call that made any, and not one by one."""


def build() -> list[dict[str, Any]]:
    """Every row, sorted by provider and id."""
    facts = tomllib.loads((ROOT / "tools" / "catalogue_facts.toml").read_text(encoding="utf-8"))
    hand = tomllib.loads((ROOT / "tools" / "catalogue_rows.toml").read_text(encoding="utf-8"))
    rows = _priced(facts) + [_hand_row(row) for row in hand["model"]]
    rows.sort(key=lambda row: (row["provider"], row["id"].lower(), row["id"]))
    names = [(row["provider"], row["id"]) for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"these models have two rows: {twice}")
    for row in rows:
        check_rates(row["rates"])
        if row["kind"] == "chat" and not {"input", "output"} <= row["rates"].keys():
            raise SystemExit(f"{row['provider']}/{row['id']} is sold as chat without both prices")
    return rows


def render(rows: list[dict[str, Any]]) -> bytes:
    """The file: one row a line, so that a change of prices reads as one."""
    head = {"format": 1, "built_from": f"genai-prices {PINNED}", "as_of": AS_OF.date().isoformat()}
    lines = b",\n".join(msgspec.json.encode(row) for row in rows)
    return msgspec.json.encode(head)[:-1] + b',"models":[\n' + lines + b"\n]}\n"


def _priced(facts: dict[str, Any]) -> list[dict[str, Any]]:
    from genai_prices.data import providers

    found = []
    for provider in providers:
        for model in provider.models:
            if _listed(facts, provider.id, model.id) and not model.deprecated:
                row = _row(facts, provider, model)
                if row is not None:
                    found.append(row)
    return found


def _listed(facts: dict[str, Any], provider: str, model: str) -> bool:
    wanted = facts["listed"].get(provider, ())
    unwanted = facts["unlisted"]["all"]
    return _matches(model, wanted) and not _matches(model, unwanted)


def _matches(name: str, patterns: Any) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _row(facts: dict[str, Any], provider: Any, model: Any) -> dict[str, Any] | None:
    """One row, or None if its price cannot be said in our meters."""
    known: dict[str, Any] = {}
    for family in facts["family"]:
        if family["provider"] == provider.id and _matches(model.id, family["models"]):
            known.update(
                {name: value for name, value in family.items() if name not in ("provider", "models")}
            )
    rates = _rates(model)
    if rates is None:
        return None
    if provider.id == "google" and "web_search" in rates and _matches(model.id, GROUNDED):
        rates["grounded"] = rates.pop("web_search")
    more = _add_fees(facts, provider.id, model.id, rates) + _add_tiers(facts, provider.id, model.id, rates)
    name = known.get("id", model.id)
    upstream = known.get("upstream", model.id).format(id=model.id)
    urls = provider.pricing_urls or [""]
    return _arranged(
        id=name,
        provider=provider.id,
        kind=known.get("kind", "chat"),
        rates=_ordered(rates),
        upstream="" if upstream == name else upstream,
        description=model.name or "",
        context_window=known.get("context_window", model.context_window or 0),
        output_max=known.get("output_max", 0),
        capabilities=known.get("capabilities", []),
        parameters=known.get("parameters", {}),
        source="; ".join([f"genai-prices {PINNED}: {urls[0]}", *more]),
        date=AS_OF.date().isoformat(),
    )


def _add_fees(facts: dict[str, Any], provider: str, model: str, rates: dict[str, int]) -> list[str]:
    """Add what the facts say of tools; what is said of where that was read."""
    told = []
    for fee in facts["fee"]:
        if fee["provider"] == provider and _matches(model, fee["models"]):
            for key, usd in fee["prices"].items():
                rates[key] = _micro(Decimal(usd), parse_key(key).meter)
            told.append(f"{', '.join(fee['prices'])}: {fee['source']} ({fee['date']})")
    return told


def _add_tiers(facts: dict[str, Any], provider: str, model: str, rates: dict[str, int]) -> list[str]:
    """The same of tiers: their own prices, or so many times every token rate there is."""
    told = []
    plain = {key: rate for key, rate in rates.items() if METERS[parse_key(key).meter].by_size}
    for tier in facts["tier"]:
        if tier["provider"] != provider or not _matches(model, tier["models"]):
            continue
        if "times" in tier:
            found = {key: Decimal(rate) * Decimal(tier["times"]) for key, rate in plain.items()}
        else:
            found = {key: Decimal(_micro(Decimal(usd), key)) for key, usd in tier["prices"].items()}
        for key, rate in found.items():
            name, at, above = key.partition("@")
            if rate != int(rate):
                raise SystemExit(f"{model}: the rate of {key} on {tier['name']} is finer than a rate can be")
            rates[f"{name}:{tier['name']}{at}{above}"] = int(rate)
        told.append(f"tier {tier['name']}: {tier['source']} ({tier['date']})")
    return told


def _rates(model: Any) -> dict[str, int] | None:
    """The dearest price of the day, where it depends on the hour; None if a unit has no meter."""
    prices: dict[str, Any] = {}
    for half_hour in range(48):
        now = model.get_prices(AS_OF + timedelta(minutes=30 * half_hour))
        for key, price in vars(now).items():
            if price is not None and key not in UNPRICED:
                prices[key] = price if key not in prices else max(prices[key], price, key=_base)
    rates: dict[str, int] = {}
    for key, price in prices.items():
        if key in PER_MILLION:
            _add(rates, PER_MILLION[key], price)
        elif key in ("audio_hours", "input_audio_hours"):
            # A second costs the 3,600th part, rounded up to a whole micro-credit per 10^6 seconds.
            rates["audio_second"] = -(-int(price * MICRO_PER_USD * UNITS) // 3600)
        elif key in PER_THOUSAND:
            rates[PER_THOUSAND[key]] = int(price * MICRO_PER_USD * UNITS / 1000)
        else:
            return None
    mixed = "audio_second" in rates and len(rates) > 1
    return None if mixed or not any(rates.values()) else rates


def _base(price: Any) -> Decimal:
    found: Decimal = getattr(price, "base", price)
    return found


def _add(rates: dict[str, int], meter: str, price: Any) -> None:
    rates[meter] = _micro(_base(price), meter)
    for tier in getattr(price, "tiers", ()):
        rates[f"{meter}@{tier.start}"] = _micro(tier.price, meter)


def _micro(usd: Decimal, meter: str) -> int:
    """Dollars for as many units as the meter is quoted for, as micro-credits per 10^6 units."""
    rate = usd * MICRO_PER_USD * (UNITS // METERS[meter].per)
    if rate != int(rate):
        raise SystemExit(f"{usd} dollars for {meter} is finer than a rate can be")
    return int(rate)


def _hand_row(row: dict[str, Any]) -> dict[str, Any]:
    rates = {key: _micro(Decimal(usd), parse_key(key).meter) for key, usd in row["prices"].items()}
    more = {name: value for name, value in row.items() if name != "prices"}
    return _arranged(rates=_ordered(rates), **more)


def _ordered(rates: dict[str, int]) -> dict[str, int]:
    meters = list(METERS)

    def place(key: str) -> tuple[int, int, tuple[str, ...]]:
        found = parse_key(key)
        return found.above, meters.index(found.meter), found.variant

    return {key: rates[key] for key in sorted(rates, key=place)}


def _arranged(**row: Any) -> dict[str, Any]:
    """A row with its members in one order; what is empty is left out."""
    order = (
        "id", "provider", "kind", "upstream", "description", "context_window", "output_max",
        "capabilities", "parameters", "rates", "source", "date", "certain",
    )  # fmt: skip
    unknown = row.keys() - set(order)
    if unknown:
        raise SystemExit(f"{row['id']}: no row has {sorted(unknown)}")
    return {name: row[name] for name in order if name in row and (row[name] or name == "certain")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the shipped file differs")
    wanted = parser.parse_args()
    installed = version("genai-prices")
    if installed != PINNED:
        raise SystemExit(f"genai-prices is {installed}; this script knows {PINNED}")
    rows = build()
    built = render(rows)
    if wanted.check:
        if not TARGET.exists() or TARGET.read_bytes() != built:
            raise SystemExit(
                f"{TARGET.relative_to(ROOT)} is not what its sources say: python tools/catalogue.py"
            )
        print(f"{TARGET.relative_to(ROOT)} is up to date: {len(rows)} models")
        return
    TARGET.write_bytes(built)
    print(f"{TARGET.relative_to(ROOT)}: {len(rows)} models, {len(built)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
