"""Sums of calls that answer "what was used" without reading calls, and stay when calls are deleted.

sums       what is summed, and adding it to every table that has it
fill       making the sums agree with the calls and refunds
periods    days and months of any time zone, cut into the spans that are stored
usage      asking
"""

from __future__ import annotations

from tollway.store.rollups.usage import Used, usage

__all__ = ("Used", "usage")
