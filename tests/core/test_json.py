"""Strict reading: what was parsed is exactly what was sent, or it is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.json import BadJSON, encode, read_object, refuse_duplicates

REFUSED = {
    "empty": b"",
    "not json": b"hello",
    "truncated": b'{"a":1',
    "array": b"[1]",
    "null": b"null",
    "string": b'"a"',
    "number": b"5",
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "1e400": b'{"a":1e400}',
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"\\udc00"}',
    "invalid utf-8": b'{"a":"\xff"}',
    "overlong utf-8": b'{"a":"\xc0\xaf"}',
    "cesu surrogate": b'{"a":"\xed\xa0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "raw control character": b'{"a":"\x01"}',
    "depth 65": b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
    "depth 100,000": b"[" * 100_000,
    "unclosed million": b"{" * 1_000_000,
    "100,001 values": b'{"a":[' + b"1," * 100_000 + b"1]}",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_refused(body):
    with pytest.raises(BadJSON):
        read_object(body)


def test_depth_64_is_accepted():
    assert read_object(b'{"a":' + b"[" * 63 + b"]" * 63 + b"}")


DUPLICATES = {
    "plain": b'{"a":1,"a":2}',
    "escaped twin": b'{"s":1,"\\u0073":2}',
    "nested": b'{"a":{"b":1,"b":1}}',
    "compensated by an escaped colon": b'{"a":"\\u003a","b":1,"b":2}',
    "compensated by upper case": b'{"a":"\\u003A","b":1,"b":2}',
    "spaced": b'{"a" :1, "a" :2}',
}


@pytest.mark.parametrize("body", DUPLICATES.values(), ids=DUPLICATES)
def test_a_duplicate_key_is_refused(body):
    value = read_object(body)
    with pytest.raises(BadJSON, match="twice"):
        refuse_duplicates(body, encode(value))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_what_has_no_duplicates_is_never_refused_however_it_is_written(value, ascii_only, indent):
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        read = read_object(body)
    except BadJSON:
        assert any(0xD800 <= ord(char) <= 0xDFFF for char in json.dumps(value, ensure_ascii=False))
        return
    refuse_duplicates(body, encode(read))
    assert json.loads(encode(read)) == value
