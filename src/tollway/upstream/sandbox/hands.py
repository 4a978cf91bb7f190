"""The tools of a coding agent's caller: which of them reads, edits, patches or runs, and with what input.

They are known by their names and the properties of their schemas, whose names count without case and
`_`. A property may also be a list of what is wanted, or of objects that have it: {"commands": ["ls"]},
{"files": [{"path": "a"}]}, {"path": "a", "edits": [{"oldText": "x", "newText": "y"}]}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from tollway.core.json import encode
from tollway.upstream.sandbox import schema
from tollway.upstream.sandbox.ask import Ask, Tool

Step = tuple[Tool, str] | None
"""A tool and its input."""

Wanted = dict[tuple[str, ...], str]
"""What is to be said, by the names a property for it may have."""

_PATHS: Final = ("filepath", "absolutepath", "path", "targetfile", "filename", "file")
_OLD: Final = ("oldstring", "oldstr", "oldtext", "search")
_NEW: Final = ("newstring", "newstr", "newtext", "replace")
_PATCH: Final = ("input", "patch")
_SHELL: Final = ("command", "cmd", "script")
_EXPLAINED: Final = ("description", "explanation", "instruction", "justification")
_READS: Final = re.compile(r"read|view|open|cat\b", re.IGNORECASE)
_READS_OTHER: Final = re.compile(
    r"mcp|many|image|notebook|web|url|output|resource|thread|memory", re.IGNORECASE
)
_RUNS: Final = re.compile(r"sh\b|shell|bash|exec|command|terminal|run", re.IGNORECASE)
_EDITOR: Final = re.compile(r"str_replace_(based_edit_tool|editor)")


def reader(ask: Ask, path: str) -> Step:
    """A call that reads a file, if there is a tool for it."""
    for tool in ask.tools:
        if _EDITOR.fullmatch(tool.name):
            return tool, encode({"command": "view", "path": path}).decode()
        if not _READS.search(tool.name) or _READS_OTHER.search(tool.name):
            continue
        given = _fit(tool.schema, {_PATHS: path})
        if given is not None and _fit(tool.schema, {_NEW: ""}) is None:
            return tool, encode(_completed(tool.schema, given)).decode()
    return None


def editor(ask: Ask, path: str, old: str, new: str) -> Step:
    """A call that replaces a text in a file, if there is a tool for it."""
    for tool in ask.tools:
        if _EDITOR.fullmatch(tool.name):
            said = {"command": "str_replace", "path": path, "old_str": old, "new_str": new}
            return tool, encode(said).decode()
        given = _fit(tool.schema, {_PATHS: path, _OLD: old, _NEW: new})
        if given is not None:
            return tool, encode(_completed(tool.schema, given)).decode()
    return None


def patcher(ask: Ask, patch: str) -> Step:
    """A call that applies a patch, if there is a tool for it."""
    tool = next((tool for tool in ask.tools if tool.name == "apply_patch"), None)
    if tool is None or tool.custom:
        return None if tool is None else (tool, patch)
    given = _fit(tool.schema, {_PATCH: patch})
    return (tool, encode(_completed(tool.schema, given)).decode()) if given is not None else None


def shell(ask: Ask, command: str, purpose: str) -> Step:
    """A call that runs a command, if there is a tool for it; `purpose` goes where it wants one told."""
    fits = [
        tool
        for tool in ask.tools
        if not tool.custom and not _EDITOR.fullmatch(tool.name) and _fit(tool.schema, {_SHELL: ""})
    ]
    tool = next((tool for tool in fits if _RUNS.search(tool.name)), fits[0] if fits else None)
    if tool is None:
        return None
    given = _fit(tool.schema, {_SHELL: command}, alone=lambda text: ["bash", "-lc", text])
    return tool, encode(_completed(tool.schema, given or {}, purpose)).decode()


def _fit(
    shape: Any, wanted: Wanted, *, alone: Callable[[str], list[str]] = lambda text: [text], deep: bool = True
) -> dict[str, Any] | None:
    """What is wanted in the properties it goes into; None if some has no place.

    `alone`: how one text is said in a list under a name in the singular.
    """
    properties = _properties(shape)
    given: dict[str, Any] = {}
    rest: Wanted = {}
    for names, value in wanted.items():
        name = next((name for one in names for name in properties if _named(name, one, properties)), "")
        if not name:
            rest[names] = value
        elif _type(properties[name]) == "array":
            given[name] = alone(value) if _plain(name) in names else [value]
        else:
            given[name] = value
    if not rest:
        return given
    for name, inner in properties.items() if deep else ():
        found = _fit(inner.get("items"), rest, deep=False) if _type(inner) == "array" else None
        if found is not None:
            return {**given, name: [_completed(inner["items"], found)]}
    return None


def _named(name: str, wanted: str, properties: dict[str, Any]) -> bool:
    """Whether a property is one for texts, or lists of texts, of that name."""
    inner, plain = properties[name], _plain(name)
    if _type(inner) == "array":
        return plain in (wanted, f"{wanted}s") and _type(inner.get("items")) == "string"
    return plain == wanted and _type(inner) == "string"


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _type(shape: Any) -> str:
    """The type of a value, without null; what says nothing of it is a text."""
    if type(shape) is not dict:
        return "string"
    found = shape.get("type")
    if type(found) is list:
        found = next((one for one in found if one != "null"), "string")
    if found is None:
        options = shape.get("anyOf") or shape.get("oneOf")
        kinds = [_type(one) for one in options] if type(options) is list else []
        found = next((kind for kind in kinds if kind != "null"), "string")
    return found if type(found) is str else ""


def _properties(shape: Any) -> dict[str, Any]:
    found = shape.get("properties") if type(shape) is dict else None
    listed = found.items() if type(found) is dict else ()
    return {name: inner for name, inner in listed if type(inner) is dict}


def _completed(shape: Any, given: dict[str, Any], purpose: str = "") -> dict[str, Any]:
    """The input with something valid for whatever else is required."""
    required = shape.get("required") if type(shape) is dict else None
    properties = _properties(shape)
    for name in required if type(required) is list else ():
        if name in given or type(name) is not str:
            continue
        told = purpose and name in _EXPLAINED
        given[name] = purpose if told else schema.generate(properties.get(name, {}))
    return given
