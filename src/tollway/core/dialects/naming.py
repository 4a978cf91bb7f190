"""Names a target accepts: tool names and call ids, changed reversibly where they must be.

A changed name ends in a digest of the original, so that it is the same in every turn and no two
names become one. The way back is a table made per request.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final

from tollway.core.dialects.base import Sent
from tollway.core.exchange import Tool, ToolCall
from tollway.core.json import decode, encode

SEPARATOR: Final = "__"
SEARCH: Final = "tool_search"
_TEXT_INPUT: Final = "input"


class Namer:
    """The tool names of one request, as one target spells them."""

    def __init__(self, legal: re.Pattern[str], length_max: int) -> None:
        self._legal = legal
        self._max = length_max
        self._sent: dict[tuple[str, str], str] = {}
        self._taken: dict[str, tuple[str, str]] = {}
        self.undo: dict[str, Sent] = {}

    def declare(self, tool: Tool) -> str:
        """The name to declare a tool by; what differs from the client's view is noted for the way back."""
        name = self.name(tool.namespace, tool.name)
        if tool.kind != "hosted" and (name != tool.name or tool.kind != "function"):
            self.undo[name] = Sent(tool.namespace, tool.name, tool.kind)
        return name

    def name(self, namespace: str, name: str) -> str:
        """The name a tool goes by, declared or not (a call in history may name a tool that is gone)."""
        key = (namespace, name)
        known = self._sent.get(key)
        if known is not None:
            return known
        wanted = f"{namespace}{SEPARATOR}{name}" if namespace else name
        if not self._legal.fullmatch(wanted) or wanted in self._taken:
            wanted = self._mangled(wanted, f"{namespace}\0{name}")
        self._sent[key] = wanted
        self._taken[wanted] = key
        return wanted

    def _mangled(self, wanted: str, original: str) -> str:
        digest = sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        clean = re.sub(r"[^a-zA-Z0-9_-]", "_", wanted)[: self._max - 9] or "tool"
        if not self._legal.fullmatch(clean):
            clean = f"t_{clean}"[: self._max - 9]
        return f"{clean}_{digest}"


def legal_id(call_id: str, legal: re.Pattern[str]) -> str:
    """A call id the target accepts: itself, or a digest that is the same in every turn."""
    if legal.fullmatch(call_id):
        return call_id
    return "call_" + sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def wrapped_schema(tool: Tool) -> dict[str, Any]:
    """The arguments of a tool as JSON Schema; a custom tool's text becomes one string."""
    if tool.kind != "custom":
        return tool.schema or {"type": "object", "properties": {}}
    return {
        "type": "object",
        "properties": {
            _TEXT_INPUT: {"type": "string", "description": "The tool's whole input, as plain text."}
        },
        "required": [_TEXT_INPUT],
        "additionalProperties": False,
    }


def wrapped_description(tool: Tool) -> str:
    """A tool's description, with the grammar of its input where it has one."""
    grammar = tool.grammar or {}
    definition = grammar.get("definition")
    if type(definition) is not str:
        return tool.description
    syntax = grammar.get("syntax") or "given"
    return f"{tool.description}\n\nThe input must match this {syntax} grammar:\n{definition}".strip()


def wrapped_arguments(call: ToolCall) -> str:
    """A call's arguments as the target's model would have written them."""
    if call.kind == "custom":
        return encode({_TEXT_INPUT: call.arguments}).decode()
    return call.arguments if call.arguments.strip() else "{}"


def unwrapped_arguments(sent: Sent, arguments: str) -> str:
    """The client's view of arguments written for a wrapped tool."""
    if sent.kind != "custom":
        return arguments
    try:
        value = decode(arguments)
    except ValueError:
        return arguments
    text = value.get(_TEXT_INPUT) if type(value) is dict else None
    return text if type(text) is str else arguments


def object_of(arguments: str) -> dict[str, Any] | None:
    """Arguments as an object; {} where there are none, None where they are not one."""
    if not arguments.strip():
        return {}
    try:
        value = decode(arguments)
    except ValueError:
        return None
    return value if type(value) is dict else None
