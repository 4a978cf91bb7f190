"""Generated values satisfy the schemas they are generated for, and hostile schemas cost little."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.upstream.sandbox.checker import problems

from tollway.core.json import encode
from tollway.upstream.sandbox.schema import generate

NODE = {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value", "next"]}
LIST = {"$defs": {"node": {**NODE, "properties": {**NODE["properties"], "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}}, "$ref": "#/$defs/node"}  # fmt: skip
TREE = {"type": "object", "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["name", "kids"], "additionalProperties": False}  # fmt: skip
DEEP = {"$defs": {"a": {"type": "object", "properties": {"b": {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "required": ["a"]}}, "required": ["b"]}}, "allOf": [{"$ref": "#/$defs/a"}]}  # fmt: skip

BASE = {
    "$defs": {
        "base": {
            "type": "object",
            "properties": {"id": {"type": "integer", "minimum": 5}},
            "required": ["id"],
        }
    }
}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "null"},
        {"type": ["null", "string"]},
        {"type": ["null"]},
        {"const": [1, {"a": None}]},
        {"enum": ["b", "a"]},
        {"type": "integer", "minimum": 2.5},
        {"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5},
        {"type": "integer", "maximum": -3, "multipleOf": 4},
        {"type": "integer", "multipleOf": 0.5},
        {"type": "integer", "minimum": 2**62},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "number", "exclusiveMinimum": 3},
        {"type": "number", "exclusiveMaximum": -3},
        {"type": "number", "minimum": 0.1, "multipleOf": 0.1},
        {"minimum": 4},
        {"type": "string", "minLength": 40, "maxLength": 41},
        {"type": "string", "maxLength": 0},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "email", "maxLength": 5},
        {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}$"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "integer", "maximum": 2}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 4, "uniqueItems": True},
        {"type": "array", "maxItems": 0},
        {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "boolean"}},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"anyOf": [False, {"type": "integer"}]},
        {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"type": "null"}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {**BASE, "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"id": {"maximum": 9}, "n": {"type": "string"}}, "required": ["n"]}]},
        {"allOf": [{"type": "number", "minimum": 2}, {"type": "integer", "minimum": 4}, {"maximum": 5}]},
        {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
        {"definitions": {"a/b": {"type": "integer"}}, "$ref": "#/definitions/a~1b"},
        LIST,
        TREE,
        DEEP,
    ],
    ids=json.dumps,
)  # fmt: skip
def test_keywords(schema):
    value = json.loads(encode(generate(schema)))
    assert problems(value, schema) == []
    assert generate(schema) == generate(schema)


def scalars():
    bounds = st.tuples(st.integers(-1000, 1000), st.integers(1, 50))
    sizes = st.tuples(st.integers(0, 30), st.integers(0, 30))
    return st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string"}, {"type": "number"}]),
        st.lists(st.one_of(st.integers(), st.text(max_size=5), st.none()), min_size=1, max_size=4).map(
            lambda values: {"enum": values}
        ),
        bounds.map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[0] + b[1]}),
        bounds.map(lambda b: {"type": "integer", "exclusiveMinimum": b[0], "multipleOf": b[1]}),
        bounds.map(
            lambda b: {"type": "number", "exclusiveMinimum": b[0] / 7, "exclusiveMaximum": (b[0] + b[1]) / 7}
        ),
        sizes.map(lambda b: {"type": "string", "minLength": b[0], "maxLength": b[0] + b[1]}),
    )


def composed(inner):
    names = st.text("abcdefg_/~", min_size=1, max_size=4)
    properties = st.dictionaries(names, inner, max_size=4)
    objects = st.tuples(properties, st.booleans(), st.booleans()).map(
        lambda p: {
            "type": "object",
            "properties": p[0],
            "required": sorted(p[0]) if p[1] else sorted(p[0])[:1],
            "additionalProperties": p[2],
        }
    )
    arrays = st.tuples(inner, st.integers(0, 3), st.integers(0, 3)).map(
        lambda p: {"type": "array", "items": p[0], "minItems": p[1], "maxItems": p[1] + p[2]}
    )
    either = st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts})
    referred = inner.map(lambda part: {"type": "object", "properties": {"it": part}, "required": ["it"]})
    return st.one_of(objects, arrays, either, referred)


@settings(deadline=None)
@given(st.recursive(scalars(), composed, max_leaves=12))
def test_any_schema_gets_a_value_that_satisfies_it(schema):
    assert problems(json.loads(encode(generate(schema))), schema) == []


@settings(deadline=None)
@given(st.recursive(scalars(), composed, max_leaves=6), st.recursive(scalars(), composed, max_leaves=6))
def test_references_are_followed(one, other):
    schema = {
        "$defs": {"one": one, "other": {"type": "array", "items": {"$ref": "#/$defs/one"}, "minItems": 1}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/other"}, "b": other, "c": {"anyOf": [{"$ref": "#/$defs/one"}]}},
        "required": ["a", "b", "c"],
    }
    assert problems(json.loads(encode(generate(schema))), schema) == []


WIDE = {
    "type": "object",
    "properties": {str(n): {"$ref": "#"} for n in range(9)},
    "required": [str(n) for n in range(9)],
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        WIDE,
        {"type": "string", "minLength": 10**12},
        {"type": "string", "pattern": "(a{99999}){99999}"},
        {"type": "string", "pattern": "(" * 5000},
        {"type": "array", "items": {"type": "string", "minLength": 4096}, "minItems": 10**9},
        {"type": "object", "minProperties": 10**9, "additionalProperties": {"type": "integer"}},
        {"type": "integer", "minimum": 1e300},
        {"type": "number", "multipleOf": 5e-324, "minimum": 1e308},
        {"type": "integer", "multipleOf": 1e-320},
        {"type": 5, "properties": [], "required": {}, "items": 3, "minItems": "x", "enum": {}},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/nowhere/at/all"},
        {"$ref": 5},
        [1, 2],
        "text",
        5,
        False,
    ],
    ids=lambda schema: json.dumps(schema)[:60],
)
def test_hostile_and_broken_schemas_give_some_small_json(schema):
    assert len(encode(generate(schema))) < 6_000_000
