"""Conversations that the gateway keeps for its clients: how turns are joined, shown and paged through.

A turn is kept as it was given and as it was answered. What goes upstream is all of it in one list,
because no upstream is asked to remember anything; what a client reads back has ids and statuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from tollway.core import seals
from tollway.core.dialects.members import items, refuse
from tollway.core.errors import GatewayError
from tollway.core.exchange import Seal

NAME: Final = "openai_responses"
ENCRYPTED: Final = "reasoning.encrypted_content"
PREFIX: Final = "resp_"
_OWN: Final = re.compile(r"[a-z]{2,5}_([0-9a-f]{31})(i?)(\d{1,6})", re.ASCII)
"""An item id of our making: the answer's token, `i` for what was given, and the item's place."""
_RESPONSE: Final = re.compile(r"resp_[A-Za-z0-9_-]{1,128}", re.ASCII)
_ITEM: Final = re.compile(r"[A-Za-z0-9_.:=+/-]{1,256}", re.ASCII)
_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
}

Item = dict[str, Any]


class Own(NamedTuple):
    """What an item id of our making says: the response it belongs to, whether as input, and where."""

    response_id: str
    given: bool
    place: int


class Page(NamedTuple):
    """Some of a list, in the order asked for, and whether more follows in that direction."""

    data: list[Item]
    more: bool


def response_id(value: object) -> bool:
    """Whether a value can be the id of a response: nothing else is looked for."""
    return type(value) is str and _RESPONSE.fullmatch(value) is not None


def given(body: Item) -> list[Any]:
    """The turn's own input as a list of items. Raises GatewayError where it is neither string nor array."""
    value = body.get("input")
    if value is None:
        return []
    if type(value) is str:
        return [{"role": "user", "content": value}]
    return items(value, "input")


def answered(output: Iterable[Any], response: str, *, words: bool) -> list[Item]:
    """Output items of a response as they are sent back: thoughts nobody can read any more are left out.

    A thought that is neither encrypted nor written out is only known to an upstream that kept it,
    and none was asked to. Items that came with it must then not name the ones it knew. `words`:
    whether thoughts of which only a translation's words are left may stay; Responses upstreams
    look for them among what they kept.
    """
    listed = [item for item in output if type(item) is dict]
    kept = [item for item in listed if not _forgotten(item, response, words=words)]
    if len(kept) == len(listed):
        return kept
    return [_nameless(item) for item in kept]


def _forgotten(item: Item, response: str, *, words: bool) -> bool:
    if item.get("type") != "reasoning" or item.get("encrypted_content"):
        return False
    if _made_here(item.get("id"), response):
        return not words or not (item.get("summary") or item.get("content"))
    return not item.get("content")


def sealed(listed: list[Item], scope: str) -> list[Item]:
    """Output items whose encrypted thoughts say which account made them, so that no other one is sent them.

    Without its thought an item must not go by the id that ties it to one.
    """
    found = [_sealed(item, scope) for item in listed]
    if all(new is old for new, old in zip(found, listed, strict=True)):
        return listed
    return [item if item.get("type") == "reasoning" else _nameless(item) for item in found]


def _sealed(item: Item, scope: str) -> Item:
    value = item.get("encrypted_content")
    if item.get("type") != "reasoning" or type(value) is not str or not scope:
        return item
    seal = seals.unwrap(value, NAME)
    if seal.origin != NAME or seal.scope:
        return item
    note = item.get("id")
    wrapped = seals.wrap(Seal(NAME, value, scope, note if type(note) is str else ""))
    return {**item, "encrypted_content": wrapped}


def _nameless(item: Item) -> Item:
    return {name: value for name, value in item.items() if name != "id"}


def references(listed: Iterable[Any]) -> list[str]:
    """The ids that references among items name. Raises GatewayError for a reference without one."""
    found: list[str] = []
    for at, item in enumerate(listed):
        if not is_reference(item):
            continue
        name = item.get("id")
        if type(name) is not str or not name:
            raise refuse(f"input[{at}].id", "must be the id of an item")
        if not _ITEM.fullmatch(name):
            raise unknown_item(name)
        found.append(name)
    return list(dict.fromkeys(found))


def is_reference(item: object) -> bool:
    """Whether an input item only names another one."""
    if type(item) is not dict:
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item and "id" in item)


def unknown_item(name: str) -> GatewayError:
    """The refusal of a reference that leads nowhere, whoever else may have such an item."""
    return GatewayError(
        "not_found",
        f"Item with id {name[:64]!r} not found. Items are kept only for responses made with store: true, "
        "until they expire or are deleted; send the item itself instead.",
        param="input",
    )


def own(item_id: object) -> Own | None:
    """What an item id says if it is one of ours, or looks like one by chance."""
    found = _OWN.fullmatch(item_id) if type(item_id) is str else None
    return found and Own(PREFIX + found[1], bool(found[2]), int(found[3]))


def _made_here(item_id: object, response: str) -> bool:
    found = own(item_id)
    return found is not None and found.response_id == response


def foreign_ids(output: Iterable[Any], response: str) -> list[str]:
    """The ids of a response's output items that do not say themselves where they belong."""
    found = [item["id"] for item in output if type(item) is dict and type(item.get("id")) is str]
    return [name for name in dict.fromkeys(found) if not _made_here(name, response) and _ITEM.fullmatch(name)]


def named(
    name: str, response: str, inputs: Sequence[Any], output: Sequence[Any], *, words: bool
) -> list[Item] | None:
    """What a reference to an item of this response stands for, as it is sent upstream; None if it has no such item."""
    for item in output:
        if type(item) is dict and item.get("id") == name:
            return answered([item], response, words=words)
    known = own(name)
    if known is None or not known.given or known.response_id != response or known.place >= len(inputs):
        return None
    return [inputs[known.place]]


def shown(inputs: Iterable[Any], response: str) -> list[Item]:
    """Input items as a client reads them back: each has an id, a type and a status."""
    token = response.removeprefix(PREFIX)
    return [_shown(item, f"{token}i{at}") for at, item in enumerate(inputs) if type(item) is dict]


def _shown(item: Item, name: str) -> Item:
    kind = item.get("type") or ("message" if "role" in item else "item")
    own_id = item.get("id")
    found: Item = {
        "id": own_id if type(own_id) is str and own_id else f"{_PREFIXES.get(kind, 'item')}_{name}",
        "type": kind,
    }
    rest = {key: value for key, value in item.items() if key not in found}
    if kind == "message":
        rest["content"] = _content(item.get("content"), item.get("role"))
    if kind != "reasoning" and rest.get("status") is None:
        rest["status"] = "completed"
    return {**found, **rest}


def _content(content: object, role: object) -> Any:
    if role == "assistant":
        parts = [{"type": "output_text", "text": content}] if type(content) is str else content
        return [_output(part) for part in parts] if type(parts) is list else parts
    return [{"type": "input_text", "text": content}] if type(content) is str else content


def _output(part: Any) -> Any:
    if type(part) is dict and part.get("type") == "output_text":
        return {"annotations": [], **part}
    return part


def without_secrets(listed: Iterable[Any], include: Iterable[str]) -> list[Any]:
    """Items as they are shown: encrypted thoughts only to those who ask for them."""
    if ENCRYPTED in include:
        return list(listed)
    return [
        {key: value for key, value in item.items() if key != "encrypted_content"}
        if type(item) is dict and item.get("type") == "reasoning"
        else item
        for item in listed
    ]


def page(
    listed: Sequence[Item], order: Literal["asc", "desc"], limit: int, after: str | None, before: str | None
) -> Page:
    """A page of items. `after` and `before` are ids, in the order asked for; raises GatewayError for unknown ones."""
    found = list(listed) if order == "asc" else list(reversed(listed))
    if after is not None:
        found = found[_place(found, "after", after) + 1 :]
    if before is not None:
        found = found[: _place(found, "before", before)]
        if after is None:
            # The page that ends where the caller's begins.
            return Page(found[-limit:], len(found) > limit)
    return Page(found[:limit], len(found) > limit)


def _place(listed: Sequence[Item], name: str, item_id: str) -> int:
    for at, item in enumerate(listed):
        if item["id"] == item_id:
            return at
    raise GatewayError("invalid_value", f"{name}: there is no item {item_id[:64]!r} in this list", param=name)
