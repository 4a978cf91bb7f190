"""The documents stay true: settings, error codes, links and sizes."""

import re
from pathlib import Path

import msgspec
import pytest

from tollway.config import Settings
from tollway.core.errors import CODES

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def rows(page: str) -> dict[str, str]:
    text = (ROOT / "docs" / page).read_text()
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", text, re.MULTILINE))


def test_every_setting_is_documented_with_its_default():
    documented = rows("settings.md")
    assert set(documented) == {field.name for field in msgspec.structs.fields(Settings)}
    for field in msgspec.structs.fields(Settings):
        default = field.default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        if isinstance(default, bool):
            shown = shown.lower()
        assert documented[field.name].strip("` ") == shown, field.name


def test_every_error_code_is_documented_with_its_status():
    assert {code: int(status) for code, status in rows("errors.md").items()} == {
        code: rule.status for code, rule in CODES.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_architecture_fits_one_sitting():
    assert (ROOT / "ARCHITECTURE.md").read_text().count("\n") <= 150
