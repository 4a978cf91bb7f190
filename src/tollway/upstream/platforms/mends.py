"""Small changes to finished Chat bodies, for upstreams that refuse what others take.

They apply to native calls too, whose bodies are otherwise the client's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tollway.core.exchange import DialectName
from tollway.core.json import encode
from tollway.upstream.platforms.base import members

Mend = Callable[[bytes], bytes]

_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def mend_for(dialect: DialectName, quirks: Mapping[str, Any]) -> Mend | None:
    """What is to be done to bodies for a model with these quirks; None where they go as they are."""
    changes: list[Callable[[dict[str, Any]], None]] = []
    signs: list[bytes] = []
    drop = tuple(quirks.get("drop", ()))
    if drop:
        changes.append(lambda body: _without(body, drop))
        signs += [encode(name) for name in drop]
    if dialect == "openai_chat":
        field = quirks.get("completion_tokens_field")
        if field in _LIMITS:
            other = _LIMITS[field]
            changes.append(lambda body: _renamed(body, other, field))
            signs.append(encode(other))
        if quirks.get("developer_role") is False:
            changes.append(_without_developers)
            signs.append(b'"developer"')
    if not changes:
        return None

    def mend(body: bytes) -> bytes:
        if not any(sign in body for sign in signs):
            return body
        found = members(body)
        for change in changes:
            change(found)
        return encode(found)

    return mend


def _without(body: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        body.pop(name, None)


def _renamed(body: dict[str, Any], old: str, new: str) -> None:
    if old not in body:
        return
    # Where a client gives both, the newer one is what its call was weighed by.
    newer, older = body.get("max_completion_tokens"), body.get("max_tokens")
    del body[old]
    body[new] = older if newer is None else newer


def _without_developers(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if type(messages) is list:
        body["messages"] = [
            {**one, "role": "system"} if type(one) is dict and one.get("role") == "developer" else one
            for one in messages
        ]
