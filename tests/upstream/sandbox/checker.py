"""A small JSON schema checker, written apart from the generator it checks."""

from __future__ import annotations

import math
import re
from typing import Any


def problems(value: Any, schema: Any, root: Any = None) -> list[str]:
    """Why `value` does not satisfy `schema`; empty if it does."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return [] if schema else ["nothing is allowed here"]
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].lstrip("#").split("/")[1:]:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return problems(value, target, root)
    found = [
        f"{value!r} fails {word}"
        for word, fine in _KEYWORDS.items()
        if word in schema and not fine(value, schema)
    ]
    found += _combinations(value, schema, root)
    if isinstance(value, dict):
        declared = schema.get("properties", {})
        for name, inner in value.items():
            found += problems(inner, declared.get(name, schema.get("additionalProperties", True)), root)
    if isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        for at, inner in enumerate(value):
            found += problems(inner, prefix[at] if at < len(prefix) else schema.get("items", True), root)
    return found


def _combinations(value: Any, schema: dict[str, Any], root: Any) -> list[str]:
    found = [text for part in schema.get("allOf", []) for text in problems(value, part, root)]
    if "anyOf" in schema and all(problems(value, part, root) for part in schema["anyOf"]):
        found.append(f"{value!r} fits no anyOf")
    if "oneOf" in schema and sum(not problems(value, part, root) for part in schema["oneOf"]) != 1:
        found.append(f"{value!r} does not fit exactly one oneOf")
    return found


def _is(value: Any, name: str) -> bool:
    if name == "integer":
        return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "number": (int, float),
        "null": type(None),
    }
    return isinstance(value, kinds[name]) and (isinstance(value, bool) == (name == "boolean"))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _multiple(value: Any, step: float) -> bool:
    return not _number(value) or math.isclose(value / step, round(value / step), abs_tol=1e-9)


_KEYWORDS = {
    "type": lambda v, s: any(
        _is(v, one) for one in (s["type"] if isinstance(s["type"], list) else [s["type"]])
    ),
    "enum": lambda v, s: v in s["enum"],
    "const": lambda v, s: v == s["const"],
    "required": lambda v, s: not isinstance(v, dict) or set(s["required"]) <= v.keys(),
    "minProperties": lambda v, s: not isinstance(v, dict) or len(v) >= s["minProperties"],
    "minItems": lambda v, s: not isinstance(v, list) or len(v) >= s["minItems"],
    "maxItems": lambda v, s: not isinstance(v, list) or len(v) <= s["maxItems"],
    "uniqueItems": lambda v, s: not isinstance(v, list) or all(one not in v[:at] for at, one in enumerate(v)),
    "minimum": lambda v, s: not _number(v) or v >= s["minimum"],
    "maximum": lambda v, s: not _number(v) or v <= s["maximum"],
    "exclusiveMinimum": lambda v, s: not _number(v) or v > s["exclusiveMinimum"],
    "exclusiveMaximum": lambda v, s: not _number(v) or v < s["exclusiveMaximum"],
    "multipleOf": lambda v, s: _multiple(v, s["multipleOf"]),
    "minLength": lambda v, s: not isinstance(v, str) or len(v) >= s["minLength"],
    "maxLength": lambda v, s: not isinstance(v, str) or len(v) <= s["maxLength"],
    "pattern": lambda v, s: not isinstance(v, str) or re.search(s["pattern"], v) is not None,
}
