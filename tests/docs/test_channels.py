"""docs/channels.md names every quirk, capability word and platform there is."""

import re
from pathlib import Path

from tollway.core.routing.targets import CAPABILITIES, KNOWN
from tollway.flows.admin.connecting import PLACES
from tollway.upstream.channels import DIALECTS

PAGE = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")


def test_every_quirk_has_its_row_and_no_row_is_invented():
    table = PAGE.split("## Quirks")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(KNOWN)
    for word in CAPABILITIES:
        assert f"`{word}`" in PAGE


def test_every_dialect_and_every_place_is_named():
    for name in (*DIALECTS, *PLACES):
        assert name in PAGE
