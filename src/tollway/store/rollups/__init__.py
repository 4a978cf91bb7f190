"""Sums of calls that answer "what was used" without reading calls, and stay when calls are deleted.

places     what calls are summed by, under a number for each combination
sums       what is summed, and adding it to every table that has it
fill       summing calls and refunds, each once
spans      building hours, days and months of UTC when they are over
periods    days and months of any time zone, cut into the spans that are stored
usage      asking
"""

from __future__ import annotations

from tollway.store.rollups.usage import Used, top, usage

__all__ = ("Used", "top", "usage")
