"""Gemini's JSON, in which every member may be spelled in camelCase or in snake_case."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from tollway.core.dialects.members import Members

NAME: Final = "gemini"


@lru_cache(maxsize=512)
def snake(name: str) -> str:
    """The snake_case spelling of a camelCase name."""
    return re.sub(r"[A-Z]", lambda found: "_" + found.group().lower(), name)


@lru_cache(maxsize=512)
def camel(name: str) -> str:
    """The camelCase spelling of a snake_case name."""
    head, *rest = name.split("_")
    return head + "".join(piece[:1].upper() + piece[1:] for piece in rest)


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

    def inside(self, name: str) -> ProtoMembers | None:
        value = self.take(name)
        return None if value is None else ProtoMembers(value, self.where(name))
