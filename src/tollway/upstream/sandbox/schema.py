"""A JSON value that satisfies a JSON schema: what the sandbox's models answer and call tools with.

    generate(schema) -> value

Understood: type, enum, const, properties, required, additionalProperties, minProperties, items,
prefixItems, minItems, maxItems, uniqueItems, the numeric and string bounds, multipleOf, format,
pattern (`patterns.py`), nullable, anyOf, oneOf, allOf, $ref within the document. The first
alternative of anyOf and oneOf that does not recurse is taken. The same schema gives the same value.

The schema is the caller's and may be hostile, so depth, values and text lengths are bounded; what
exceeds the bounds is cut short, even where the result is then invalid.
"""

from __future__ import annotations

import math
from typing import Any, Final

from tollway.upstream.sandbox import patterns

Schema = dict[str, Any]

_DEPTH_FULL: Final = 6
"""Below this depth only what is required is generated, so that recursive schemas end."""
_DEPTH_MAX: Final = 40
_VALUES_FULL: Final = 500
_VALUES_MAX: Final = 5_000
_TEXT_MAX: Final = 4_096
_ITEMS_MAX: Final = 1_000
_INT_MAX: Final = 2**63 - 1

_FORMATS: Final = {
    "date-time": "2025-01-15T12:00:00Z",
    "date": "2025-01-15",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "person@example.com",
    "idn-email": "person@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/example",
    "iri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "json-pointer": "/example",
    "regex": "^example$",
    "byte": "ZXhhbXBsZQ==",
}


def generate(schema: Any) -> Any:
    """A value for `schema`; null where it allows nothing or cannot be read."""
    return _Generator(schema).value(schema, "value", 0)


def _number_or(value: Any, default: float) -> float:
    """A keyword's number. Booleans are draft 4's exclusive bounds and no numbers."""
    return value if isinstance(value, int | float) and type(value) is not bool else default


def _size(schema: Schema, name: str, default: int, most: int) -> int:
    value = schema.get(name)
    return max(0, min(int(_number_or(value, default)), most))


class _Generator:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._open_refs: list[str] = []
        self._values = 0

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """A value for a sub-schema. `name` flavours free text: the property it is for."""
        self._values += 1
        if depth > _DEPTH_MAX or self._values > _VALUES_MAX or schema is False:
            return None
        if type(schema) is not dict:
            return f"sample {name}"[:_TEXT_MAX]
        ref = schema.get("$ref")
        if type(ref) is str:
            return self._referred(schema, ref, name, depth)
        listed = [schema["const"]] if "const" in schema else schema.get("enum")
        if type(listed) is list and listed:
            return listed[0]
        outside = len(self._open_refs)
        combined = self._combined(schema)
        found = (
            self._typed(schema, name, depth) if combined is None else self.value(combined, name, depth + 1)
        )
        del self._open_refs[outside:]
        return found

    def _referred(self, schema: Schema, ref: str, name: str, depth: int) -> Any:
        target = self._resolve(ref)
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "$defs", "definitions")}
        self._open_refs.append(ref)
        found = self.value(_merged(target, beside) if beside else target, name, depth + 1)
        self._open_refs.pop()
        return found

    def _resolve(self, ref: str) -> Any:
        if not ref.startswith("#"):
            return True
        found = self._root
        for step in ref[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if (
                type(found) is list
                and key.isascii()
                and key.isdigit()
                and len(key) < 6
                and int(key) < len(found)
            ):
                found = found[int(key)]
            elif type(found) is dict:
                found = found.get(key, True)
            else:
                return True
        return found

    def _combined(self, schema: Schema) -> Any:
        """`schema` with its first allOf, anyOf or oneOf worked in; None when it has none."""
        for word in ("allOf", "anyOf", "oneOf"):
            parts = schema.get(word)
            if type(parts) is not list or not parts:
                continue
            found: Any = {key: value for key, value in schema.items() if key != word}
            for part in parts if word == "allOf" else [self._calmest(parts)]:
                found = _merged(self._inlined(part), found)
            return found
        return None

    def _inlined(self, part: Any) -> Any:
        """A part of a combination with its own $ref opened, so that its siblings can be merged into it."""
        for _ in range(8):
            if type(part) is not dict or type(part.get("$ref")) is not str or part["$ref"] in self._open_refs:
                return part
            beside = {key: value for key, value in part.items() if key != "$ref"}
            self._open_refs.append(part["$ref"])
            part = _merged(self._resolve(part["$ref"]), beside)
        return part

    def _calmest(self, parts: list[Any]) -> Any:
        open_ended = [part for part in parts if part is not False and not self._recurses(part)]
        if self._scarce():
            open_ended.sort(key=_weight)
        return (open_ended or parts)[0]

    def _recurses(self, schema: Any) -> bool:
        if type(schema) is not dict:
            return False
        ref = schema.get("$ref")
        if type(ref) is str and (ref in self._open_refs or ref == "#"):
            return True
        return schema.get("type") == "array" and self._recurses(schema.get("items"))

    def _scarce(self) -> bool:
        return self._values > _VALUES_FULL

    def _typed(self, schema: Schema, name: str, depth: int) -> Any:
        kind = _type_of(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return _integer(schema) if kind == "integer" else _number(schema)
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return _text(schema, name)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        declared = schema.get("properties")
        properties: Schema = declared if type(declared) is dict else {}
        listed = schema.get("required")
        required = [key for key in listed if type(key) is str] if type(listed) is list else []
        only_required = depth >= _DEPTH_FULL or self._scarce()
        found: dict[str, Any] = {}
        for key, value in properties.items():
            unwanted = only_required or value is False or self._recurses(value)
            if key in required or not unwanted:
                found[key] = self.value(value, key, depth + 1)
        extra = schema.get("additionalProperties", True)
        for key in required:
            if key not in found:
                found[key] = self.value(extra, key, depth + 1)
        self._fill(found, schema, properties, depth)
        return found

    def _fill(self, found: dict[str, Any], schema: Schema, properties: Schema, depth: int) -> None:
        """Bring an object to `minProperties`, first with what is declared, then with free names."""
        wanted = _size(schema, "minProperties", 0, _ITEMS_MAX)
        spare = [key for key in properties if key not in found]
        while len(found) < wanted and spare:
            key = spare.pop(0)
            found[key] = self.value(properties[key], key, depth + 1)
        extra = schema.get("additionalProperties", True)
        number = 0
        while len(found) < wanted and extra is not False:
            number += 1
            found.setdefault(f"extra_{number}", self.value(extra, f"extra {number}", depth + 1))

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems")
        prefix: list[Any] = first if type(first) is list else []
        rest = schema.get("items", True)
        least = _size(schema, "minItems", 0, _ITEMS_MAX)
        most = _size(schema, "maxItems", _ITEMS_MAX, _ITEMS_MAX)
        shy = depth >= _DEPTH_FULL or self._scarce() or rest is False or self._recurses(rest)
        wanted = max(least, len(prefix) if shy else max(1, len(prefix)))
        found = [
            self.value(prefix[at] if at < len(prefix) else rest, name, depth + 1)
            for at in range(min(wanted, most))
        ]
        if schema.get("uniqueItems") is True:
            _make_unique(found, rest)
        return found


def _type_of(schema: Schema) -> str:
    """The type to generate: the first that is not null, or what the other keywords imply."""
    stated = schema.get("type")
    if type(stated) is str:
        return stated
    if type(stated) is list:
        named = [one for one in stated if type(one) is str]
        return next((one for one in named if one != "null"), "null" if named else "string")
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} & schema.keys():
        return "number"
    return "string"


def _weight(schema: Any) -> int:
    """How much a schema is likely to grow: scalars before arrays before objects."""
    if type(schema) is not dict or "$ref" in schema:
        return 3
    return {"object": 2, "array": 1}.get(_type_of(schema), 0)


def _merged(one: Any, other: Any) -> Any:
    """A schema that demands what both demand, as far as keywords can say it."""
    if one is False or other is False:
        return False
    if type(one) is not dict or type(other) is not dict:
        return one if type(one) is dict else other
    found = {**one, **other}
    for key in one.keys() & other.keys():
        found[key] = _merged_keyword(key, one[key], other[key])
    return found


def _merged_keyword(key: str, mine: Any, theirs: Any) -> Any:
    if key == "properties" and type(mine) is dict and type(theirs) is dict:
        both = {name: {"allOf": [mine[name], theirs[name]]} for name in mine.keys() & theirs.keys()}
        return {**mine, **theirs, **both}
    if key == "required" and type(mine) is list and type(theirs) is list:
        return [*mine, *(name for name in theirs if name not in mine)]
    if key in ("enum", "type"):
        return _common(mine, theirs)
    if key.lower().startswith(("min", "exclusivemin", "max", "exclusivemax")):
        numbers = [bound for bound in (mine, theirs) if type(bound) in (int, float)]
        narrow = max if "min" in key.lower() else min
        return narrow(numbers) if numbers else theirs
    return theirs


def _common(mine: Any, theirs: Any) -> Any:
    ours = mine if type(mine) is list else [mine]
    others = theirs if type(theirs) is list else [theirs]
    both = [one for one in ours if one in others]
    if not both and "integer" in others and "number" in ours:
        both = ["integer"]
    if not both and "integer" in ours and "number" in others:
        both = ["integer"]
    return both or theirs


def _bounds(schema: Schema) -> tuple[float, float, bool, bool]:
    """Lowest and highest value, and whether each is itself excluded."""
    low = _number_or(schema.get("minimum"), -math.inf)
    high = _number_or(schema.get("maximum"), math.inf)
    above = _number_or(schema.get("exclusiveMinimum"), -math.inf)
    below = _number_or(schema.get("exclusiveMaximum"), math.inf)
    low_open = (above >= low and above > -math.inf) or schema.get("exclusiveMinimum") is True
    high_open = (below <= high and below < math.inf) or schema.get("exclusiveMaximum") is True
    return max(low, above), min(high, below), low_open, high_open


def _integer(schema: Schema) -> int | float:
    low, high, low_open, high_open = _bounds(schema)
    least = -_INT_MAX if low == -math.inf else math.floor(low) + 1 if low_open else math.ceil(low)
    most = _INT_MAX if high == math.inf else math.ceil(high) - 1 if high_open else math.floor(high)
    wanted = max(least, min(1, most))
    step = _number_or(schema.get("multipleOf"), 1)
    if step > 0:
        wanted = _stepped(wanted, step, most)
    return wanted if -_INT_MAX <= wanted <= _INT_MAX else float(wanted)


def _stepped(wanted: int, step: float, most: int) -> int:
    """The nearest multiple of `step` at or above `wanted`, or the last one below `most`, that is an integer."""
    whole = int(step) if step == int(step) else 0
    if not whole:
        # A fractional step reaches an integer after at most its denominator; try the usual ones.
        whole = next((k for k in (1, 2, 5, 10, 100, 1000) if (k / step).is_integer()), 1)
    up = -(-wanted // whole) * whole
    return up if up <= most else most // whole * whole


def _number(schema: Schema) -> int | float:
    low, high, low_open, high_open = _bounds(schema)
    step = _number_or(schema.get("multipleOf"), 0)
    if step > 0:
        return _multiple(low, high, step, low_open)
    wanted = max(low, min(1, high))
    if (wanted == low and low_open) or (wanted == high and high_open):
        if -math.inf < low and high < math.inf:
            return low + (high - low) / 2
        return wanted + 1 if wanted == low else wanted - 1
    return _finite(wanted)


def _multiple(low: float, high: float, step: float, low_open: bool) -> float:
    start = max(low, min(1, high))
    if not math.isfinite(start / step):
        return _finite(start)
    times = math.ceil(start / step)
    if times * step > high:
        times = math.floor(high / step)
    if times * step == low and low_open:
        times += 1
    return _finite(times * step)


def _finite(value: float) -> float:
    if math.isinf(value):
        return 0
    return value if type(value) is float or -_INT_MAX <= value <= _INT_MAX else float(value)


def _text(schema: Schema, name: str) -> str:
    least = _size(schema, "minLength", 0, _TEXT_MAX)
    most = _size(schema, "maxLength", _TEXT_MAX, _TEXT_MAX)
    pattern = schema.get("pattern")
    if type(pattern) is str:
        try:
            return patterns.example(pattern, least)
        except patterns.Unsupported:
            pass
    fixed = _FORMATS.get(str(schema.get("format")))
    if fixed is not None and least <= len(fixed) <= most:
        return fixed
    text = f"sample {name}"
    if len(text) < least:
        text += " " + "x" * (least - len(text) - 1)
    return text[:most]


def _make_unique(items: list[Any], schema: Any) -> None:
    """Tell equal scalars apart in place; equal objects are left, nothing general can be done about them."""
    if type(schema) is dict and type(schema.get("enum")) is list:
        items[:] = [*schema["enum"], *items][: len(items)]
        return
    step = _number_or(schema.get("multipleOf"), 1) if type(schema) is dict else 1
    most = _number_or(schema.get("maximum"), math.inf) if type(schema) is dict else math.inf
    for at, item in enumerate(items):
        if type(item) in (int, float) and item in items[:at]:
            moved = items[at - 1] + step
            items[at] = moved if moved <= most else min(items[:at]) - step
        elif type(item) is bool and item in items[:at]:
            items[at] = not item
        elif type(item) is str and item in items[:at]:
            items[at] = f"{item[: len(item) - len(str(at))]}{at}"
