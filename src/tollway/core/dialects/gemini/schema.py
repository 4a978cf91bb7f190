"""JSON Schema and Gemini's subset of OpenAPI, in both directions.

Gemini refuses a whole request for one keyword it does not know. Where a model takes JSON Schema as it
is, none of this is needed; where not, references are resolved, what has an equivalent is said with
it, and the rest is left out: a schema that is wider than asked for still describes every right answer.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.gemini.proto import TYPES, worded

_KEPT: Final = frozenset(
    (
        "description", "title", "enum", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum",
        "minProperties", "maxProperties", "pattern", "required", "nullable", "propertyOrdering", "default",
        "example",
    )
)  # fmt: skip
_FORMATS: Final = {
    "string": frozenset(("enum", "date-time")),
    "number": frozenset(("float", "double")),
    "integer": frozenset(("int32", "int64")),
}
_DEPTH_MAX: Final = 32
_NULL: Final = ({"type": "null"}, {"const": None}, {"enum": [None]})


def to_gemini(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema in Gemini's subset."""
    return _Down(schema).schema(schema, ())


class _Down:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def schema(self, source: Any, seen: tuple[str, ...]) -> dict[str, Any]:
        if type(source) is not dict or len(seen) > _DEPTH_MAX:
            return {}
        reference = source.get("$ref")
        if type(reference) is str:
            return self._referred(reference, source, seen)
        found: dict[str, Any] = {name: value for name, value in source.items() if name in _KEPT}
        self._values(source, found)
        self._kind(source, found, seen)
        self._choices(source, found, seen)
        self._children(source, found, seen)
        return found

    def _referred(self, reference: str, source: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
        # A schema that contains itself cannot be written out; the inner one may then be anything.
        if reference in seen:
            return {"type": "OBJECT"}
        target: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                target = (
                    target.get(step.replace("~1", "/").replace("~0", "~")) if type(target) is dict else None
                )
        siblings = {name: value for name, value in source.items() if name != "$ref"}
        merged = {**target, **siblings} if type(target) is dict else siblings
        return self.schema(merged, (*seen, reference))

    def _values(self, source: dict[str, Any], found: dict[str, Any]) -> None:
        if "const" in source and source["const"] is not None:
            found["enum"] = [source["const"]]
            found.setdefault("type", _type_of(source["const"]))
        values = found.get("enum")
        if type(values) is list:
            if None in values:
                found["nullable"] = True
            # An enum holds strings only; numbers keep their type and lose their list.
            texts = [value for value in values if type(value) is str]
            if len(texts) == len([value for value in values if value is not None]):
                found["enum"] = texts
                found["type"] = "STRING"
            else:
                del found["enum"]
        for name in ("minimum", "maximum"):
            exclusive = source.get("exclusive" + name.capitalize())
            if name not in found and type(exclusive) in (int, float):
                found[name] = exclusive

    def _kind(self, source: dict[str, Any], found: dict[str, Any], seen: tuple[str, ...]) -> None:
        kind = source.get("type")
        kinds = kind if type(kind) is list else [kind] if type(kind) is str else []
        if "null" in kinds:
            found["nullable"] = True
        real = [one for one in kinds if one != "null" and type(one) is str]
        if len(real) == 1:
            found["type"] = real[0].upper()
        elif real:
            rest = {name: value for name, value in source.items() if name != "type"}
            found["anyOf"] = [self.schema({**rest, "type": one}, seen) for one in real]
        if "type" not in found and "properties" in source:
            found["type"] = "OBJECT"
        kept = source.get("format")
        if type(kept) is str and kept in _FORMATS.get(str(found.get("type", "")).lower(), ()):
            found["format"] = kept

    def _choices(self, source: dict[str, Any], found: dict[str, Any], seen: tuple[str, ...]) -> None:
        for name in ("anyOf", "oneOf"):
            options = source.get(name)
            if type(options) is not list:
                continue
            real = [one for one in options if one not in _NULL]
            if len(real) < len(options):
                found["nullable"] = True
            written = [self.schema(one, seen) for one in real]
            if len(written) == 1:
                found.update({key: value for key, value in written[0].items() if key not in found})
            elif written:
                found["anyOf"] = written
        together = source.get("allOf")
        for one in together if type(together) is list else []:
            part = self.schema(one, seen)
            properties = {**found.get("properties", {}), **part.pop("properties", {})}
            required = list(dict.fromkeys([*found.get("required", []), *part.pop("required", [])]))
            found.update({key: value for key, value in part.items() if key not in found})
            if properties:
                found["properties"] = properties
            if required:
                found["required"] = required

    def _children(self, source: dict[str, Any], found: dict[str, Any], seen: tuple[str, ...]) -> None:
        properties = source.get("properties")
        if type(properties) is dict:
            inner = {name: self.schema(one, seen) for name, one in properties.items()}
            found["properties"] = {**found.get("properties", {}), **inner}
        items = source.get("items")
        if type(items) is dict:
            found["items"] = self.schema(items, seen)
        elif found.get("type") == "ARRAY":
            found.setdefault("items", {"type": "STRING"})
        required = found.get("required")
        if type(required) is list:
            known = found.get("properties", {})
            kept = [name for name in required if name in known]
            found["required"] = kept
            if not kept:
                del found["required"]
        if not found.get("properties"):
            # An empty list of members is refused; an object that names none is not.
            found.pop("properties", None)


def _type_of(value: object) -> str:
    names: dict[type, str] = {str: "STRING", bool: "BOOLEAN", int: "INTEGER", float: "NUMBER", list: "ARRAY"}
    return names.get(type(value), "OBJECT")


def from_gemini(schema: Any) -> dict[str, Any]:
    """Gemini's subset as JSON Schema."""
    if type(schema) is not dict:
        return {}
    found: dict[str, Any] = {}
    for name, value in schema.items():
        match name:
            case "type" if type(value) in (str, int):
                found["type"] = str(worded(value, TYPES)).lower()
            case "properties" if type(value) is dict:
                found["properties"] = {key: from_gemini(one) for key, one in value.items()}
            case "items":
                found["items"] = from_gemini(value)
            case "anyOf" | "any_of" if type(value) is list:
                found["anyOf"] = [from_gemini(one) for one in value]
            case "nullable" | "propertyOrdering" | "property_ordering" | "example":
                pass
            case "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties":
                found[name] = int(value) if type(value) is str and value.isdigit() else value
            case _:
                found[name] = value
    kind = found.get("type")
    if schema.get("nullable") is True and type(kind) is str:
        found["type"] = [kind, "null"]
    return found


def is_empty(schema: dict[str, Any] | None) -> bool:
    """Whether a tool's arguments are none at all."""
    return not schema or (
        schema.get("type") == "object" and not schema.get("properties") and "$ref" not in schema
    )
