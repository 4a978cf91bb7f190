"""Embeddings that mean something: deterministic unit vectors in which texts that share words are near."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Final

DIMENSIONS: Final = 256
DIMENSIONS_MAX: Final = 3072
NUMBERS_MAX: Final = 1_048_576
"""The most numbers of one answer, over all its vectors."""
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_WORDS_MAX: Final = 8_192
_SHARE: Final = 8
"""How many places of the vector a word moves."""


def unit(text: str, size: int = DIMENSIONS) -> list[float]:
    """A vector of length one, always the same for a text and a size."""
    found = [0.0] * size
    words = _WORD.findall(text.lower())[:_WORDS_MAX] or [""]
    for word in words:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4 * _SHARE).digest()
        for at in range(0, len(digest), 4):
            place = int.from_bytes(digest[at : at + 3], "big") % size
            found[place] += digest[at + 3] / 127.5 - 1
    length = math.sqrt(sum(value * value for value in found))
    if length == 0:
        found[0] = length = 1.0
    return [round(value / length, 7) for value in found]
