"""The clock and the source of ids, for everything above the core."""

from __future__ import annotations

import os
import time
from typing import Final

_CHANCE: Final = 10
_DRAW: Final = 4000
# Drawn many at a time, because each draw is a system call. Taking one off a list is atomic, so no two
# threads get the same; a forked child draws its own.
_chances: list[str] = []
os.register_at_fork(after_in_child=_chances.clear)


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str, now: int) -> str:
    """A fresh id that sorts by time: prefix, 11 hexadecimal digits of milliseconds, 20 of chance.

    Rows are inserted in the order of their ids, which keeps their index pages few and warm.
    """
    try:
        chance = _chances.pop()
    except IndexError:
        chance = _draw()
    return f"{prefix}_{now:011x}{chance}"


def _draw() -> str:
    """Fill the stock of chance, and take one piece off before others can."""
    drawn = os.urandom(_DRAW).hex()
    width = 2 * _CHANCE
    _chances.extend([drawn[at : at + width] for at in range(width, len(drawn), width)])
    return drawn[:width]
