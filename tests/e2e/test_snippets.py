"""The snippets of the documents, run as they stand against a running gateway."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/clients.md")
ADDRESS, KEY = "http://127.0.0.1:8800", "sk-tw-..."


def snippets():
    for page in PAGES:
        for at, (language, text) in enumerate(
            re.findall(r"^```(python|sh)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        ):
            yield pytest.param(language, text, id=f"{page}-{at}")


def test_the_documents_have_snippets():
    assert len(list(snippets())) >= 8


@pytest.mark.parametrize(("language", "text"), list(snippets()))
def test_a_snippet_runs_and_prints_something(gateway, language, text):
    assert ADDRESS in text
    assert KEY in text
    text = text.replace(ADDRESS, gateway.url).replace(KEY, gateway.key)
    command = [sys.executable, "-W", "error", "-c", text] if language == "python" else ["sh", "-ec", text]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "error" not in done.stdout.lower()
