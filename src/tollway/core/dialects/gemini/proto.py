"""Gemini's JSON, in which a member may be spelled in camelCase or in snake_case, and a word may be its number."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from tollway.core.dialects.members import Members

NAME: Final = "gemini"

TYPES: Final = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
MODALITIES: Final = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO")
"""Words by their numbers. Clients made from the protocol's definition over REST send the numbers."""


@lru_cache(maxsize=512)
def snake(name: str) -> str:
    """The snake_case spelling of a camelCase name."""
    return re.sub(r"[A-Z]", lambda found: "_" + found.group().lower(), name)


@lru_cache(maxsize=512)
def camel(name: str) -> str:
    """The camelCase spelling of a snake_case name."""
    head, *rest = name.split("_")
    return head + "".join(piece[:1].upper() + piece[1:] for piece in rest)


def worded(value: Any, words: tuple[str, ...]) -> Any:
    """The word that a number stands for; anything else as it is."""
    return words[value] if type(value) is int and 0 <= value < len(words) else value


class ProtoMembers(Members):
    """Members that are asked for in camelCase and found in either spelling."""

    __slots__ = ()

    def take(self, name: str) -> Any:
        rest = self.rest
        if not rest:
            return None
        value = rest.pop(name, None)
        other = snake(name)
        if other != name and other in rest:
            spelled = rest.pop(other)
            return spelled if value is None else value
        return value

    def word(self, name: str, words: tuple[str, ...]) -> str | None:
        """A text that may be given as its number among `words`."""
        value = self.take(name)
        if value is not None:
            self.rest[name] = worded(value, words)
        return self.text(name)

    def inside(self, name: str) -> ProtoMembers | None:
        value = self.take(name)
        return None if value is None else ProtoMembers(value, self.where(name))
