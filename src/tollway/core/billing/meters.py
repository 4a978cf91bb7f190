"""What is counted and priced: the meters, and usage made into disjoint counts of them.

Upstreams report inclusive totals (cached tokens are part of `input`, reasoning tokens of
`output`); billing them as they stand would charge the same token twice. `meters_of` splits each
token into exactly one meter, and only into meters the price knows: tokens without a rate of
their own stay with their parent, so that nothing is free by omission. What the upstream's own tools did
is counted beside them, and the tier that served the call is kept as a mark, `tier:NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tollway.core.exchange import Usage

COUNT_MAX: Final = 10**9
"""The largest count believed of any upstream."""


TIER: Final = "tier"
"""What the mark of a tier is called among the counts of a call: `tier:priority`, counted once."""
_TIERED: Final = (TIER,)


class Meter(NamedTuple):
    """What one unit is called, for people; `direction` says which side of the call it counts.

    `per`: how many units a price is quoted for. `qualifiers`: what its variants tell apart, in the
    order in which a key names them. `by_size`: whether its rate may depend on the size of the call.
    """

    unit: str
    units: str
    direction: str
    per: int = 1_000_000
    qualifiers: tuple[str, ...] = ()

    @property
    def by_size(self) -> bool:
        return self.unit.endswith("token") and self.qualifiers in ((), _TIERED)


METERS: Final[dict[str, Meter]] = {
    "input": Meter("input token", "input tokens", "in", qualifiers=_TIERED),
    "cache_read": Meter("cached input token", "cached input tokens", "in", qualifiers=_TIERED),
    "cache_write": Meter("cache write token", "cache write tokens", "in", qualifiers=_TIERED),
    "cache_write_1h": Meter(
        "one-hour cache write token", "one-hour cache write tokens", "in", qualifiers=_TIERED
    ),
    "output": Meter("output token", "output tokens", "out", qualifiers=_TIERED),
    "reasoning": Meter("reasoning token", "reasoning tokens", "out", qualifiers=_TIERED),
    "audio_in": Meter("audio input token", "audio input tokens", "in", qualifiers=_TIERED),
    "audio_out": Meter("audio output token", "audio output tokens", "out", qualifiers=_TIERED),
    "image_token_in": Meter("image input token", "image input tokens", "in", qualifiers=_TIERED),
    "image_token_out": Meter("image output token", "image output tokens", "out", qualifiers=_TIERED),
    "image": Meter("image", "images", "out", 1, ("size", "quality")),
    "image_in": Meter("input image", "input images", "in", 1),
    "video_second": Meter("second of video", "seconds of video", "out", 1, ("resolution", "sound", "mode")),
    "video_token": Meter("video token", "video tokens", "out", qualifiers=("resolution", "sound", "mode")),
    "song": Meter("song", "songs", "out", 1, ("kind",)),
    "character": Meter("character", "characters", "in"),
    "audio_second": Meter("second of audio", "seconds of audio", "in", 1),
    "call": Meter("call", "calls", "in", 1),
    "web_search": Meter("web search", "web searches", "in", 1, ("kind",)),
    "grounded": Meter("call that searched the web", "calls that searched the web", "in", 1),
    "map_search": Meter("map search", "map searches", "in", 1),
    "file_search": Meter("file search", "file searches", "in", 1),
    "code_session": Meter("code session", "code sessions", "in", 1, ("memory",)),
}
"""Every meter a rate may be set for. Rates are micro-credits per 10^6 units, whatever `per` says."""

TOKENS_IN: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_in", "image_token_in")
"""The meters whose counts sum to the input tokens of a call."""


def clean_count(value: object) -> tuple[int, bool]:
    """A count as an upstream reported it, clamped to 0..10^9, and whether it was absurd.

    Absent (None) is zero and no anomaly. Booleans, floats and strings are not counts.
    """
    if value is None:
        return 0, False
    if type(value) is not int:
        return 0, True
    if 0 <= value <= COUNT_MAX:
        return value, False
    return (0 if value < 0 else COUNT_MAX), True


def meters_of(usage: Usage, rates: Mapping[str, int]) -> dict[str, int]:
    """Disjoint counts per meter; meters that counted nothing are absent.

    The input side sums to `usage.input` and the output side to `usage.output`, whatever the
    details claim: a detail larger than what is left of its total is cut to it. A token that is
    both cached and audio counts as cached. `cache_write` and `cache_write_1h` are apart from each
    other; one-hour writes without a rate are priced as ordinary writes. A price with a rate for
    `call` adds one call. Where the price knows the tier that served the call, its rates decide what
    is told apart, and the counts carry its mark.
    """
    found: dict[str, int] = {}
    if usage.tier:
        tier = known_tier(usage.tier, rates)
        if tier:
            found[f"{TIER}:{tier}"] = 1
            rates = of_tier(tier, rates)
    write, write_1h = usage.cache_write, usage.cache_write_1h
    if write_1h and "cache_write_1h" not in rates:
        write, write_1h = write + write_1h, 0
    rest = usage.input
    # Most calls have no details, and this runs for each of them.
    if usage.cache_read or write or write_1h or usage.audio_in or usage.image_in:
        heard = (
            ("cache_read", usage.cache_read),
            ("cache_write", write),
            ("cache_write_1h", write_1h),
            ("audio_in", usage.audio_in),
            ("image_token_in", usage.image_in),
        )
        rest = _split(found, rates, rest, heard)
    if rest:
        found["input"] = rest
    rest = usage.output
    if usage.reasoning or usage.audio_out or usage.image_out:
        said = (
            ("reasoning", usage.reasoning),
            ("audio_out", usage.audio_out),
            ("image_token_out", usage.image_out),
        )
        rest = _split(found, rates, rest, said)
    if rest:
        found["output"] = rest
    if "call" in rates:
        found["call"] = 1
    if usage.tools:
        _count_tools(found, rates, usage.tools)
    return found


def _count_tools(found: dict[str, int], rates: Mapping[str, int], tools: Mapping[str, int]) -> None:
    """Add what the upstream's tools did, each by the meter (and kind) it was counted under."""
    used = {counted: count for counted, count in tools.items() if count}
    found.update(
        (counted, count) for counted, count in used.items() if has_rate(counted.partition(":")[0], rates)
    )
    if "grounded" in rates and any(counted.partition(":")[0] == "web_search" for counted in used):
        found["grounded"] = 1


def has_rate(meter: str, rates: Mapping[str, int]) -> bool:
    """Whether a price has a rate for a meter or for some variant of it."""
    return meter in rates or any(key.startswith(f"{meter}:") for key in rates)


def known_tier(tier: str, rates: Mapping[str, int]) -> str:
    """The tier of a price that a served one is billed by; "" if that is the plain price.

    A name may be made of several (`fast-us`): where the price has none for all together, the dearest
    of those it has.
    """
    if _has_tier(tier, rates):
        return tier
    parts = [part for part in tier.split("-") if _has_tier(part, rates)]
    return max(parts, key=lambda part: _tier_rates(part, rates), default="")


def _has_tier(tier: str, rates: Mapping[str, int]) -> bool:
    return f"input:{tier}" in rates or f"output:{tier}" in rates


def _tier_rates(tier: str, rates: Mapping[str, int]) -> tuple[int, int]:
    return rates.get(f"output:{tier}", 0), rates.get(f"input:{tier}", 0)


def of_tier(tier: str, rates: Mapping[str, int]) -> dict[str, int]:
    """The price within a price that a tier is: its token rates under their plain keys, and all else.

    Tokens that the tier has no rate for are part of their parents, as in any price.
    """
    found: dict[str, int] = {}
    for key, rate in rates.items():
        name, at, above = key.partition("@")
        meter, _, variant = name.partition(":")
        if not METERS[meter].by_size:
            found[key] = rate
        elif variant == tier:
            found[f"{meter}{at}{above}"] = rate
    return found


def tier_of(counts: Mapping[str, int]) -> str:
    """The tier that counts are marked with, "" if none."""
    for counted in counts:
        if counted.startswith("tier:"):
            return counted[5:]
    return ""


def _split(
    found: dict[str, int], rates: Mapping[str, int], total: int, parts: tuple[tuple[str, int], ...]
) -> int:
    """Count the parts that have a rate, none beyond the total; returns what is left of it."""
    for name, count in parts:
        if count and name in rates:
            taken = min(count, total)
            if taken:
                found[name] = taken
                total -= taken
    return total


def plain(usage: Usage) -> bool:
    """Whether only input and output were counted, so that there is nothing to take apart."""
    return not (
        usage.cache_read
        or usage.cache_write
        or usage.cache_write_1h
        or usage.reasoning
        or usage.audio_in
        or usage.audio_out
        or usage.image_in
        or usage.image_out
        or usage.tools
        or usage.tier
    )


def contradictory(usage: Usage) -> bool:
    """Whether the details cannot be parts of their totals, which makes the bill a matter of interpretation."""
    parts_in = usage.cache_read + usage.cache_write + usage.cache_write_1h
    return (
        parts_in > usage.input
        or usage.audio_in > usage.input
        or usage.image_in > usage.input
        or usage.reasoning > usage.output
        or usage.audio_out > usage.output
        or usage.image_out > usage.output
    )
