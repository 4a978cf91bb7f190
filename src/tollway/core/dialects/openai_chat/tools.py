"""The tools of a Chat Completions request, checked: names, schemas of a sane size, references that end."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from tollway.core.errors import GatewayError
from tollway.core.json import encode

TOOLS_MAX: Final = 1024
SCHEMA_MAX: Final = 512 * 1024
"""The largest tool definition, in bytes of JSON."""


def _refuse(where: str, wanted: str) -> NoReturn:
    raise GatewayError("invalid_value", f"{where!r} must be {wanted}.", param=where)


def check_tools(tools: Any, kept: bytes) -> None:
    """Refuse malformed tools. `kept` is the encoded request, which tells cheaply what need not be looked for."""
    if tools is None:
        return
    if type(tools) is not list or len(tools) > TOOLS_MAX:
        _refuse("tools", f"an array of at most {TOOLS_MAX} tools")
    references = b'"$ref":' in kept
    large = len(kept) > SCHEMA_MAX
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if type(tool) is not dict or type(tool.get("type")) is not str:
            _refuse(where, "an object with a 'type'")
        if tool["type"] == "function":
            _check_function(f"{where}.function", tool.get("function"))
            if references:
                _check_references(f"{where}.function.parameters", tool["function"].get("parameters"))
        if large and len(encode(tool)) > SCHEMA_MAX:
            _refuse(where, f"at most {SCHEMA_MAX // 1024} KiB of JSON")


def _check_function(where: str, function: Any) -> None:
    if type(function) is not dict:
        _refuse(where, "an object with a 'name'")
    name = function.get("name")
    if type(name) is not str or not 1 <= len(name) <= 256:
        _refuse(f"{where}.name", "a string of 1 to 256 characters")
    parameters = function.get("parameters")
    if parameters is not None and type(parameters) is not dict:
        _refuse(f"{where}.parameters", "a JSON Schema object")


def check_functions(name: str, functions: Any) -> None:
    """The deprecated form of tools."""
    if type(functions) is not list or len(functions) > TOOLS_MAX:
        _refuse(name, f"an array of at most {TOOLS_MAX} functions")
    for index, function in enumerate(functions):
        _check_function(f"{name}[{index}]", function)


def check_choice(name: str, choice: Any) -> None:
    """`tool_choice`: a word, or an object that names a tool."""
    if type(choice) is str:
        if choice not in ("none", "auto", "required"):
            _refuse(name, "'none', 'auto', 'required' or an object")
    elif type(choice) is not dict or type(choice.get("type")) is not str:
        _refuse(name, "'none', 'auto', 'required' or an object with a 'type'")


def _check_references(where: str, schema: Any) -> None:
    """Refuse references that only ever lead to references: recursion through properties is legal, this is not."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if type(node) is dict:
            if type(node.get("$ref")) is str:
                _follow(where, schema, node["$ref"])
            stack.extend(node.values())
        elif type(node) is list:
            stack.extend(node)


def _follow(where: str, schema: Any, reference: str) -> None:
    seen = set()
    while reference.startswith("#"):
        if reference in seen:
            _refuse(where, f"a schema whose references end; {reference[:80]!r} leads back to itself")
        seen.add(reference)
        target = _target(schema, reference)
        following = target.get("$ref") if type(target) is dict else None
        if type(following) is not str:
            return
        reference = following


def _target(schema: Any, reference: str) -> Any:
    node = schema
    for step in reference.lstrip("#").split("/"):
        if step:
            key = step.replace("~1", "/").replace("~0", "~")
            node = node.get(key) if type(node) is dict else None
    return node
