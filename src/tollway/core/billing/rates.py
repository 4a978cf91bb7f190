"""The rates of a price: what each unit costs, by variant and by the size of a call.

A price is a flat map from keys to micro-credits per 10^6 units, the same in the database, in a
receipt and on the command line. A key reads

    METER                  input, output, image, video_second, ...
    METER:VARIANT...       image:1024x1024:high, video_second:1080p:audio, image:any:high
    METER@TOKENS           input@200000: once the input of a call exceeds 200,000 tokens
    METER:TIER             input:priority, input:flex@200000: where the upstream served the call on that tier

A threshold concerns the whole call: all of its tokens are charged at the higher rate, as Anthropic,
Google and OpenAI do. A rate never falls with the size of a call, so that a bound on its input
bounds its cost. A tier is a price within the price: it has token rates of its own, and shares the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn

from tollway.core.billing.meters import METERS, TOKENS_IN, known_tier, of_tier

UNITS: Final = 1_000_000
RATE_MAX: Final = 10**18
"""The dearest rate: a million credits for one unit."""
WHOLE: Final = 10_000
"""A discount of everything. Discounts are counted in hundredths of a percent."""
ANY: Final = "any"
"""The qualifier that stands for every other."""
THRESHOLD_MAX: Final = 10**9

_KEY: Final = re.compile(r"([a-z][a-z0-9_]*)((?::[a-z0-9][a-z0-9.x_-]{0,31})*)(?:@([1-9][0-9]{0,9}))?")
_TEXT_IN: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "image_token_in")
_TEXT_OUT: Final = ("output", "reasoning", "image_token_out")


class RateKey(NamedTuple):
    """A key of a rate, taken apart. `above`: the input tokens a call must exceed, 0 for none."""

    meter: str
    variant: tuple[str, ...]
    above: int


class Dearest(NamedTuple):
    """The dearest rates a call may meet, for text and with audio, each times what a discount leaves."""

    text_in: int
    text_out: int
    audio_in: int
    audio_out: int


def parse_key(key: str) -> RateKey:
    """Take a key apart. Raises ValueError saying what is wrong with it."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"{key[:80]!r} is no rate: a rate is METER, METER:VARIANT or METER@TOKENS")
    name, variant, above = found[1], tuple(found[2].split(":")[1:]), int(found[3] or 0)
    meter = METERS.get(name)
    if meter is None:
        raise ValueError(f"there is no meter {name!r}")
    if len(variant) > len(meter.qualifiers):
        known = ", then ".join(meter.qualifiers)
        raise ValueError(
            f"{key!r} has too many qualifiers: {name} is priced by {known}"
            if known
            else f"{key!r} has a variant, but {name} has none"
        )
    if variant[:1] == (ANY,) and meter.by_size:
        raise ValueError(f"{key!r} is the rate of {name!r} itself: leave ':{ANY}' out")
    if above and not meter.by_size:
        raise ValueError(f"{key!r} has a threshold, but only tokens are priced by the size of a call")
    if above > THRESHOLD_MAX:
        raise ValueError(f"{key!r}: a threshold is at most {THRESHOLD_MAX} tokens")
    return RateKey(name, variant, above)


def key_of(meter: str, *variant: str) -> str:
    """The key under which units of a variant are counted; see `Meter.qualifiers` for their order."""
    return ":".join((meter, *variant))


def check_rates(rates: Mapping[str, int]) -> None:
    """Refuse rates that no call could be billed by. Raises ValueError."""
    for key, rate in rates.items():
        found = parse_key(key)
        if type(rate) is not int or not 0 <= rate <= RATE_MAX:
            raise ValueError(f"the rate of {key!r} must be an integer from 0 to {RATE_MAX}")
        smaller = key.partition("@")[0]
        if found.above and smaller not in rates:
            raise ValueError(f"{key!r} needs a rate for {smaller!r}, which smaller calls pay")
    for name in {key.partition("@")[0] for key in rates}:
        _check_rising(name, rates)
    for tier in tiers_of(rates):
        _check_tier(tier, rates)


def _check_rising(name: str, rates: Mapping[str, int]) -> None:
    steps = sorted((parse_key(key).above, rate) for key, rate in rates.items() if _is_of(key, name))
    for (_, below), (above, rate) in pairwise(steps):
        if rate < below:
            raise ValueError(
                f"'{name}@{above}' is cheaper than the rate of smaller calls; rates rise with size"
            )


def _is_of(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}@")


def _check_tier(tier: str, rates: Mapping[str, int]) -> None:
    """A tier that lacks what every call has would be billed by guesses."""
    lacking = [f"{meter}:{tier}" for meter in ("input", "output") if meter in rates]
    lacking = [key for key in lacking if key not in rates]
    if lacking or not ("input" in rates or "output" in rates):
        named = " and ".join(map(repr, lacking)) or "'input' and 'output'"
        raise ValueError(f"the tier {tier!r} needs rates for {named} too")


def tiers_of(rates: Mapping[str, int]) -> tuple[str, ...]:
    """The tiers a price has token rates for, sorted."""
    found = set()
    for key in rates:
        name, _, variant = key.partition("@")[0].partition(":")
        if variant and METERS[name].by_size:
            found.add(variant)
    return tuple(sorted(found))


class Rates(dict[str, int]):
    """The rates of one price version with what pricing derives of them, worked out once.

    It is the plain map of keys to rates, and is never changed after it was made. `discount`:
    hundredths of a percent taken off every bill, 0 to 10,000. `scale`: what a sum of counts times
    `due` rates is divided by to give micro-credits. Raises ValueError; see `check_rates`.
    """

    __slots__ = (
        "_flat",
        "_less",
        "_variants",
        "call",
        "discount",
        "only",
        "plain",
        "scale",
        "steps",
        "tiers",
        "usual",
    )

    scale: int
    call: int
    steps: tuple[tuple[int, dict[str, int], Dearest], ...]
    """For each threshold a call can exceed, the highest first and 0 last: the due rates by meter
    and the dearest of them."""
    tiers: dict[str, Rates]
    """The price that each tier is; see `of_tier`."""
    only: dict[str, int] | None
    """The due rates by meter, where they are the same for calls of every size and tier."""
    usual: Dearest | None
    """The dearest of them, where there are such."""
    plain: tuple[int, int] | None
    """The due rates of input and output, where a call that counts nothing else costs nothing else either."""

    def __init__(self, rates: Mapping[str, int] | Iterable[tuple[str, int]] = (), discount: int = 0) -> None:
        super().__init__(rates)
        check_rates(self)
        if not 0 <= discount <= WHOLE:
            raise ValueError(f"a discount is 0 to {WHOLE} hundredths of a percent")
        self.discount = discount
        keep = WHOLE - discount
        # Without a discount the numbers stay small; with one, everything is in hundredths of a percent.
        factor, self.scale = (keep, UNITS * WHOLE) if discount else (1, UNITS)
        self._flat = {key: rate * factor for key, rate in self.items()}
        self._variants = _variants(self._flat)
        self._less: dict[int, Rates] = {}
        self.call = self._flat.get("call", 0)
        self.steps = _steps(self._flat)
        self.tiers = {tier: Rates(of_tier(tier, self), discount) for tier in tiers_of(self)}
        self.only = only = None if self.tiers or len(self.steps) > 1 else self.steps[0][1]
        self.usual = None if only is None else self.steps[0][2]
        self.plain = None if only is None or "call" in only else (only.get("input", 0), only.get("output", 0))

    def of_tier(self, tier: str) -> Rates:
        """The rates of a call that was served on a tier: the plain ones if the price does not know it."""
        known = known_tier(tier, self) if tier and self.tiers else ""
        return self.tiers[known] if known else self

    def less(self, discount: int) -> Rates:
        """The same rates with another discount."""
        if discount == self.discount:
            return self
        found = self._less.get(discount)
        if found is None:
            found = self._less[discount] = Rates(self, discount)
        return found

    def at(self, input_tokens: int) -> dict[str, int]:
        """The due rates by meter of a call with this input. Variants are not among them."""
        for above, due, _ in self.steps:
            if input_tokens > above:
                return due
        return self.steps[-1][1]

    def dearest(self, input_tokens: int) -> Dearest:
        """The dearest due rates a call with at most this input can meet."""
        for above, _, found in self.steps:
            if input_tokens > above:
                return found
        return self.steps[-1][2]

    def dearest_of(self, meter: str) -> int:
        """The dearest due rate of a meter among its variants, 0 if it has none."""
        return max(self._variants.get(meter, {}).values(), default=0)

    def of_variant(self, counted: str) -> int:
        """The due rate of units that were counted under a key with qualifiers.

        The rate that names most of the qualifiers and contradicts none; where none fits, the
        dearest of that meter, so that nothing is free by omission; 0 if the meter has no rate.
        """
        meter, _, rest = counted.partition(":")
        known = self._variants.get(meter)
        if not known:
            return 0
        found = tuple(rest.split(":")) if rest else ()
        best, fit = -1, 0
        for variant, rate in known.items():
            score = _likeness(variant, found)
            if score > best or (score == best and rate > fit):
                best, fit = score, rate
        return fit if best >= 0 else max(known.values())

    def _frozen(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("rates are never changed: make new ones")

    __setitem__ = __delitem__ = __ior__ = _frozen
    update = pop = popitem = clear = setdefault = _frozen


def _variants(flat: dict[str, int]) -> dict[str, dict[tuple[str, ...], int]]:
    found: dict[str, dict[tuple[str, ...], int]] = {}
    for key, rate in flat.items():
        meter, variant, above = parse_key(key)
        if not above:
            found.setdefault(meter, {})[variant] = rate
    return found


def _likeness(variant: tuple[str, ...], counted: tuple[str, ...]) -> int:
    """How many qualifiers a rate's variant names of those counted; -1 if it contradicts one."""
    score = 0
    for n, qualifier in enumerate(variant):
        if qualifier == ANY:
            continue
        if n >= len(counted) or counted[n] != qualifier:
            return -1
        score += 1
    return score


def _steps(flat: dict[str, int]) -> tuple[tuple[int, dict[str, int], Dearest], ...]:
    plain = {key: rate for key, rate in flat.items() if "@" not in key and ":" not in key}
    risen: dict[int, dict[str, int]] = {}
    for key, rate in flat.items():
        meter, tier, above = parse_key(key)
        if above and not tier:
            risen.setdefault(above, {})[meter] = rate
    found = [(0, plain, _dearest(plain))]
    for above in sorted(risen):
        due = {**found[-1][1], **risen[above]}
        found.append((above, due, _dearest(due)))
    return tuple(reversed(found))


def _dearest(due: dict[str, int]) -> Dearest:
    text_in = max(due.get(meter, 0) for meter in _TEXT_IN)
    text_out = max(due.get(meter, 0) for meter in _TEXT_OUT)
    return Dearest(
        text_in,
        text_out,
        max(text_in, due.get("audio_in", 0)),
        max(text_out, due.get("audio_out", 0)),
    )


def input_tokens(meters: Mapping[str, int]) -> int:
    """The input of a call in tokens, cached ones included: what thresholds are compared with."""
    return sum([meters[meter] for meter in TOKENS_IN if meter in meters])
