"""The clock and the source of ids, for everything above the core."""

from __future__ import annotations

import os
import time


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str, now: int) -> str:
    """A fresh id that sorts by time: prefix, 11 hexadecimal digits of milliseconds, 20 of chance.

    Rows are inserted in the order of their ids, which keeps their index pages few and warm.
    """
    return f"{prefix}_{now:011x}{os.urandom(10).hex()}"
