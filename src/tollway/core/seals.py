"""Opaque provider state on its way through dialects that have no field for it.

A model's signature, thought signature or encrypted reasoning must come back to the account that made
it, unchanged. At home it is written verbatim. Abroad it travels wrapped in a string field of the
client's dialect, with its origin, its channel's scope and its own remark, and is unwrapped when the
client sends the history back. Nothing is stored. A forged wrapper can only reorder channels: what is
inside is still verified by whoever made it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from tollway.core.exchange import Media, Part, Reasoning, Request, Seal, Text, ToolCall, Turn

PREFIX: Final = "tw1."
NEXT: Final = "next"
PREVIOUS: Final = "prev"
_ORIGINS: Final = frozenset(("openai_chat", "openai_responses", "anthropic", "gemini"))
_SEALED: Final = (Text, ToolCall, Media)
_PREFIX_BASE64: Final = "dHcxL"
_PREFIX_BYTES: Final = PREFIX.encode()
_BASE64_BYTES: Final = _PREFIX_BASE64.encode()
_NOBODYS: Final = Seal("", "")


def wrap(seal: Seal) -> str:
    """The seal as one string: `tw1.<origin>.<scope>.<note>.<value>`."""
    note = seal.note.replace("%", "%25").replace(".", "%2E") if seal.note else ""
    return f"{PREFIX}{seal.origin}.{seal.scope}.{note}.{seal.value}"


def unwrap(text: str, home: str) -> Seal:
    """The seal in a string field of dialect `home`; a string we did not wrap is `home`'s own."""
    if text.startswith(PREFIX):
        pieces = text.split(".", 4)
        if len(pieces) == 5 and pieces[1] in _ORIGINS:
            note = pieces[3].replace("%2E", ".").replace("%25", "%")
            return Seal(pieces[1], pieces[4], pieces[2], note)
    return Seal(home, text)


def wrap_base64(seal: Seal) -> str:
    """The wrapped seal for a field that must hold base64."""
    return base64.b64encode(wrap(seal).encode()).decode()


def unwrap_base64(text: str, home: str) -> Seal:
    """The seal in a base64 field of dialect `home`."""
    if text.startswith(_PREFIX_BASE64):
        try:
            inner = base64.b64decode(text.replace("-", "+").replace("_", "/")).decode()
        except (binascii.Error, UnicodeDecodeError):
            return Seal(home, text)
        found = unwrap(inner, "")
        return found if found.origin else Seal(home, text)
    return Seal(home, text)


def carried(body: bytes) -> bool:
    """Whether a body may carry wrapped seals: sure where it says no."""
    # Not `in`, which first takes what it looks for for a number: that costs as much as the search.
    return body.find(_PREFIX_BYTES) >= 0 or body.find(_BASE64_BYTES) >= 0


def usable(seal: Seal | None, dialect: str, scope: str) -> bool:
    """Whether a channel of this dialect and scope may be sent the seal; an unknown scope is given the chance."""
    if seal is None or seal.origin != dialect:
        return False
    return not seal.scope or not scope or seal.scope == scope


def affinity(request: Request) -> frozenset[str]:
    """The scopes whose channels this conversation should stay with."""
    return frozenset(
        part.seal.scope
        for turn in request.turns
        for part in turn.parts
        if part.seal is not None and part.seal.scope
    )


def unclaimed(request: Request) -> Iterator[str]:
    """The seals that came as their upstream wrote them, so that nothing says which account that was."""
    for turn in request.turns:
        for part in turn.parts:
            if part.seal is not None and part.seal.value and not part.seal.scope:
                yield part.seal.value


def sealed(request: Request) -> bool:
    """Whether the conversation carries any opaque state."""
    return any(part.seal is not None for turn in request.turns for part in turn.parts)


def disowned(request: Request) -> Request:
    """The request with every seal made nobody's: each writer leaves out what it cannot say without it."""
    return replace(request, turns=tuple(map(_disowned, request.turns)))


def _disowned(turn: Turn) -> Turn:
    if all(part.seal is None for part in turn.parts):
        return turn
    parts = tuple(part if part.seal is None else replace(part, seal=_NOBODYS) for part in turn.parts)
    return replace(turn, parts=parts)


def carrier(seal: Seal, place: str) -> Reasoning:
    """A thought without text that carries the seal of the part beside it."""
    return Reasoning(form="withheld", seal=replace(seal, note=place))


def spread(parts: Iterable[Part]) -> list[Part]:
    """For dialects that seal thoughts only: the seal of any other part moves to a carrier before it."""
    found: list[Part] = []
    for part in parts:
        if part.seal is not None and isinstance(part, _SEALED):
            found.append(carrier(part.seal, NEXT))
            part = replace(part, seal=None)
        found.append(part)
    return found


def gather(parts: Sequence[Part]) -> list[Part]:
    """The reverse of `spread`: carriers give their seals back to the parts they came from."""
    if not any(_is_carrier(part) for part in parts):
        return list(parts)
    found: list[Part] = []
    waiting: Seal | None = None
    for part in parts:
        if _is_carrier(part):
            assert part.seal is not None
            seal = replace(part.seal, note="")
            if part.seal.note == NEXT:
                waiting = seal
            elif not _give(found, seal):
                found.append(replace(part, seal=seal))
        elif waiting is not None and isinstance(part, _SEALED):
            found.append(replace(part, seal=waiting))
            waiting = None
        else:
            found.append(part)
    if waiting is not None:
        found.append(Reasoning(form="withheld", seal=waiting))
    return found


def _is_carrier(part: Part) -> bool:
    return (
        isinstance(part, Reasoning)
        and not part.text
        and part.seal is not None
        and part.seal.note in (NEXT, PREVIOUS)
    )


def _give(parts: list[Part], seal: Seal) -> bool:
    for at in range(len(parts) - 1, -1, -1):
        if isinstance(parts[at], _SEALED) and parts[at].seal is None:
            parts[at] = replace(parts[at], seal=seal)
            return True
    return False
