"""Counts as upstreams report them, clamped to sane integers."""

from __future__ import annotations

from typing import Final

COUNT_MAX: Final = 10**9


def count(source: object, name: str, odd: list[str]) -> int:
    """A member of a usage object: absent and null are zero, nonsense is clamped and its name noted in `odd`."""
    value = source.get(name) if type(source) is dict else None
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= COUNT_MAX:
        return value
    odd.append(name)
    return COUNT_MAX if type(value) is int and value > COUNT_MAX else 0
