"""The only place that chooses a JSON library, and the strict reading of bodies we price.

A body is refused unless what we parsed is exactly what was sent: duplicate keys, NaN, infinite
numbers, lone surrogates, deep nesting and huge node counts never get past this module, because
what is priced must be what is forwarded.
"""

from __future__ import annotations

import json as stdlib_json
from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class BadJSON(ValueError):
    """The body is not JSON we accept; the message says why, in words fit for the caller."""


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a request body strictly into an object. Raises BadJSON.

    Duplicate keys are not found here but by `refuse_duplicates`, once the caller has encoded what
    it will send: that way the body is encoded only once.
    """
    try:
        value = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJSON(_why_not(error)) from None
    if type(value) is not dict:
        raise BadJSON(f"the body must be a JSON object, not {_kind(value)}")
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX or len(body) > NODES_MAX:
        _check_shape(value)
    return value


def refuse_duplicates(body: bytes, encoded: bytes, removed: bytes = b"") -> None:
    """Raise BadJSON if the body had a key twice; it was parsed and encoded to `encoded` and `removed` together.

    Every member has one structural colon. Dropping a duplicate drops its colon, and nothing else
    changes the count unless a colon inside a string was spelled as an escape.
    """
    if body.count(b":") != encoded.count(b":") + removed.count(b":") or body.find(b"\\u003") >= 0:
        _find_duplicate(body)


def _why_not(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"the body nests deeper than {DEPTH_MAX} levels"
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not valid UTF-8 (byte {error.start} of a string)"
    return f"the body is not valid JSON: {error}"


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _check_shape(value: dict[str, Any]) -> None:
    layer: list[Any] = [value]
    nodes = 0
    for _ in range(DEPTH_MAX):
        children = [child for one in layer for child in (one.values() if type(one) is dict else one)]
        nodes += len(children)
        if nodes > NODES_MAX:
            raise BadJSON(f"the body holds more than {NODES_MAX} values")
        layer = [child for child in children if type(child) in (dict, list)]
        if not layer:
            return
    raise BadJSON(f"the body nests deeper than {DEPTH_MAX} levels")


def _find_duplicate(body: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise BadJSON(f"the key {twice[:64]!r} appears twice in one object")
        return found

    stdlib_json.loads(body, object_pairs_hook=unique)
