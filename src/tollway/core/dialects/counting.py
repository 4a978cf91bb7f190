"""Counts as upstreams report them, clamped to sane integers."""

from __future__ import annotations

import re
from typing import Final

COUNT_MAX: Final = 10**9

_USUAL: Final = frozenset(
    ("", "standard", "standard_only", "default", "auto", "on_demand", "unspecified", "provisioned_throughput",
     "global", "not_available")
)  # fmt: skip
_PREFIXES: Final = re.compile(r"^(?:service_tier_|on_demand_(?=.)|traffic_type_)")
_TIER: Final = re.compile(r"[a-z0-9][a-z0-9.x_-]{0,31}")


def tier(*words: object) -> str:
    """The tier that the words of an upstream or of a client name together, such as `priority` or `fast-us`.

    The usual one, whatever it is called, is "". A word that cannot be the name of a rate's tier names none.
    """
    found = []
    for word in words:
        if type(word) is str and word:
            # Google writes its enumerations in either case, with or without their type.
            name = _PREFIXES.sub("", word.lower())
            if name not in _USUAL:
                found.append(name)
    named = "-".join(found)
    return named if _TIER.fullmatch(named) else ""


def count(source: object, name: str, odd: list[str]) -> int:
    """A member of a usage object: absent and null are zero, nonsense is clamped and its name noted in `odd`."""
    value = source.get(name) if type(source) is dict else None
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= COUNT_MAX:
        return value
    odd.append(name)
    return COUNT_MAX if type(value) is int and value > COUNT_MAX else 0
