"""docs/billing.md names every meter with its unit and what tells its variants apart."""

import re
from pathlib import Path

from tollway.core.billing.meters import METERS

PAGE = Path(__file__).parents[2] / "docs" / "billing.md"


def test_every_meter_is_documented():
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+?) \| (\d+) \| ([^|]*?) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == [
        (
            name,
            meter.units,
            str(meter.per),
            "size of the call, tier" if meter.by_size else ", ".join(meter.qualifiers),
        )
        for name, meter in METERS.items()
    ]
