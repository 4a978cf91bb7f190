"""Thoughts in Chat Completions: the fields compatible providers invented, in both directions.

`reasoning_content` (or `reasoning`) holds thoughts as text. `reasoning_details` holds them in entries
with what their maker needs back; there, seals of other dialects travel wrapped, with `format` naming
the origin. An entry that is a provider's own keeps every member in its seal.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core import seals
from tollway.core.exchange import Extras, Reasoning, Seal, ToolCall
from tollway.core.json import decode, encode

NAME: Final = "openai_chat"
_TEXTS: Final = ("text", "summary")
_GROWING: Final = ("text", "summary", "data", "transcript")


def read_details(entries: list[Any], scope: str) -> list[Reasoning]:
    """The thoughts in `reasoning_details`; entries that share an index are pieces of one."""
    merged: list[dict[str, Any]] = []
    by_index: dict[object, dict[str, Any]] = {}
    for entry in entries:
        if type(entry) is not dict:
            continue
        index = entry.get("index")
        if type(index) is not int:
            index = None
        known = by_index.get(index) if index is not None else None
        if known is None or known.get("type") != entry.get("type"):
            known = dict(entry)
            merged.append(known)
            by_index[index] = known
        else:
            grow_entry(known, entry)
    return [read_entry(entry, scope) for entry in merged]


def grow_entry(known: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a later piece of an entry: texts are joined, everything else is replaced."""
    for name, value in piece.items():
        old = known.get(name)
        if name in _GROWING and type(old) is str and type(value) is str:
            known[name] = old + value
        elif value is not None:
            known[name] = value


def read_entry(entry: dict[str, Any], scope: str) -> Reasoning:
    """One complete entry as a thought."""
    form, text = entry_form(entry), entry_text(entry)
    return Reasoning(text, form, seal=entry_seal(entry, scope))


def entry_form(entry: dict[str, Any]) -> Any:
    """full, summary or withheld, by the entry's type."""
    kind = entry.get("type")
    if kind == "reasoning.summary":
        return "summary"
    return "withheld" if kind == "reasoning.encrypted" else "full"


def entry_text(entry: dict[str, Any]) -> str:
    """What an entry says in words."""
    for name in _TEXTS:
        value = entry.get(name)
        if type(value) is str:
            return value
    return ""


def entry_seal(entry: dict[str, Any], scope: str) -> Seal:
    """What an entry's maker needs back: a wrapped seal, or all that is not text."""
    for name in ("signature", "data"):
        value = entry.get(name)
        if type(value) is str and value.startswith(seals.PREFIX):
            return seals.unwrap(value, NAME)
    # Sorted, so that an entry is the same seal whether it came in one piece or in many.
    rest = {name: entry[name] for name in sorted(entry) if name not in _TEXTS}
    return Seal(NAME, encode(rest).decode(), scope)


def write_entry(part: Reasoning, index: int, seal: Seal) -> dict[str, Any]:
    """A sealed thought as an entry."""
    if seal.origin == NAME:
        return _own_entry(part, seal)
    entry: dict[str, Any]
    if part.form == "withheld" or not part.text:
        entry = {"type": "reasoning.encrypted", "data": seals.wrap(seal)}
    elif part.form == "summary":
        entry = {"type": "reasoning.summary", "summary": part.text, "signature": seals.wrap(seal)}
    else:
        entry = {"type": "reasoning.text", "text": part.text, "signature": seals.wrap(seal)}
    return {**entry, "format": seal.origin, "index": index}


def _own_entry(part: Reasoning, seal: Seal) -> dict[str, Any]:
    try:
        entry = decode(seal.value)
    except ValueError:
        entry = None
    found: dict[str, Any] = entry if type(entry) is dict else {"type": "reasoning.text"}
    if part.text:
        found["summary" if found.get("type") == "reasoning.summary" else "text"] = part.text
    return found


def write_call_seal(call: ToolCall, *, verbatim: bool) -> dict[str, Any]:
    """A call's seal as `extra_content`: in Google's place if Gemini made it. `verbatim`: the seal goes home."""
    if call.seal is None:
        return {}
    if call.seal.origin == NAME:
        if not verbatim:
            return {"extra_content": {"tollway": {"seal": seals.wrap(call.seal)}}}
        try:
            return {"extra_content": decode(call.seal.value)}
        except ValueError:
            return {}
    if call.seal.origin == "gemini":
        return {"extra_content": {"google": {"thought_signature": seals.wrap(call.seal)}}}
    return {"extra_content": {"tollway": {"seal": seals.wrap(call.seal)}}}


def read_call_seal(extra: object) -> Seal | None:
    """The seal a client echoes in `extra_content`."""
    if type(extra) is not dict:
        return None
    for vendor, name, home in (("google", "thought_signature", "gemini"), ("tollway", "seal", NAME)):
        inner = extra.get(vendor)
        value = inner.get(name) if type(inner) is dict else None
        if type(value) is str and value:
            return seals.unwrap(value, home)
    return None


def upstream_call_seal(extra: object, scope: str) -> Seal | None:
    """The seal an upstream puts in `extra_content`: the whole of it, as it wants it back."""
    return Seal(NAME, encode(extra).decode(), scope) if type(extra) is dict and extra else None


def all_thoughts(plain: str, extras: Extras, details: list[Reasoning]) -> list[Reasoning]:
    """Thoughts told both plainly and in entries, each once: what the entries do not say stands before or after."""
    said = "".join(part.text for part in details)
    if not plain or plain == said:
        return details
    if plain.endswith(said):
        return [Reasoning(plain[: len(plain) - len(said)], extras=extras), *details]
    if plain.startswith(said):
        return [*details, Reasoning(plain[len(said) :], extras=extras)]
    return _between(plain, extras, details)


def _between(plain: str, extras: Extras, details: list[Reasoning]) -> list[Reasoning]:
    """The entries, and between them what only the plain text says; the entries alone where they do not fit it."""
    found: list[Reasoning] = []
    at = 0
    for part in details:
        here = plain.find(part.text, at)
        if here < 0:
            return details
        if here > at:
            found.append(Reasoning(plain[at:here], extras=extras))
        found.append(part)
        at = here + len(part.text)
    return [*found, Reasoning(plain[at:], extras=extras)] if at < len(plain) else found


def plain_thought(source: dict[str, Any]) -> tuple[str, Extras]:
    """The thoughts a message or delta holds as plain text, and which field held them, if not the usual one."""
    text = source.get("reasoning_content")
    if type(text) is str and text:
        return text, {}
    text = source.get("reasoning")
    if type(text) is str and text:
        return text, {NAME: {"field": "reasoning"}}
    return "", {}
