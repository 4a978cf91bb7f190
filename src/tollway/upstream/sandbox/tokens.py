"""The sandbox's tokens: how text is cut into them, so that anybody can recompute a usage figure.

A token is up to four characters, of which only the first may be white space: one white-space
character and up to three others, or up to four others, or a white-space character alone. The
tokens of a text, joined, are the text. A token is at least one byte, so bytes bound tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

TURN_TOKENS: Final = 3
"""What each message costs besides its text."""
ATTACHMENT_TOKENS: Final = 16
"""What an image, a sound or a file costs, whatever its size."""

_LARGE: Final = 65_536
_TOKEN: Final = re.compile(r"\s\S{1,3}|\S{1,4}|\s")


def split(text: str) -> Iterator[str]:
    """The tokens of `text`, in order, found as they are asked for."""
    return (found[0] for found in _TOKEN.finditer(text))


def count(text: str) -> int:
    """How many tokens `text` has."""
    if len(text) < _LARGE:
        return len(_TOKEN.findall(text))
    # One long call into the matcher would keep every other thread out; a loop lets them in.
    return sum(1 for _ in _TOKEN.finditer(text))
