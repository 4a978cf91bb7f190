"""Why an administrative operation was not done, in words for the person who asked for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal, NoReturn

from msgspec import Struct

Kind = Literal[
    "invalid", "conflict", "not_found", "denied", "refused", "upstream", "timeout", "unavailable", "failed"
]


class Refusal(Struct, frozen=True, kw_only=True):
    """What went wrong, why, and a command or change that helps ("" where there is none)."""

    kind: Kind
    what: str
    why: str = ""
    fix: str = ""


class Refused(Exception):
    """An operation that changed nothing; carries its Refusal."""

    def __init__(self, kind: Kind, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.refusal = Refusal(kind=kind, what=what, why=why, fix=fix)


def invalid(what: str, why: str = "", fix: str = "") -> NoReturn:
    """Refuse an argument."""
    raise Refused("invalid", what, why, fix)


def unknown(noun: str, reference: str, known: Iterable[str]) -> NoReturn:
    """Refuse a reference to something that does not exist, with the closest names that do."""
    near = nearest(reference, known)
    why = f"Did you mean {' or '.join(repr(name) for name in near)}?" if near else f"There is no such {noun}."
    raise Refused("not_found", f"No {noun} {reference!r}", why, f"tollway {noun} list")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names that resemble one: the closest, and up to two that are nearly as close."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    likeness = [difflib.SequenceMatcher(None, name, one).ratio() for one in found]
    return [one for one, ratio in zip(found, likeness, strict=True) if ratio > likeness[0] - 0.1]
