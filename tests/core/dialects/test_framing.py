"""An array in the making is one JSON array, whatever is put into it."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.dialects.framing import Array

objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@given(st.lists(objects, max_size=5), st.booleans())
def test_the_frames_and_the_end_are_one_array(elements, raw):
    array = Array()
    frames = [array.frame(msgspec.Raw(json.dumps(one).encode()) if raw else one) for one in elements]
    assert json.loads(b"".join(frames) + array.close()) == elements


def test_elements_stand_on_lines_of_their_own():
    array = Array()
    out = array.frame({"a": 1}) + array.frame({"b": 2}) + array.close()
    assert out == b'[{"a":1},\r\n{"b":2}]'
