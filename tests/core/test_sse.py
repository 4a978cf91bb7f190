"""The event splitter against a naive reference, for any line ends and chunk boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core import sse

LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b": ping",
        b"event: x",
        b'data: {"t":"\xe2\x80\xa8\xc2\x85\x0b"}',
        b"id: 1",
        b"data: ",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def reference(stream: bytes) -> list[bytes]:
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found, data, any_line = [], [], False
    for line in lines:
        if line:
            any_line = True
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                data.append(b"")
        elif any_line:
            found.append(b"\n".join(data))
            data, any_line = [], False
    if any_line:
        found.append(b"\n".join(data))
    return found


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    splitter, found, start = sse.Splitter(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        found += splitter.feed(stream[start:cut])
        start = cut
    return found + splitter.end()


@given(st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), ENDS), max_size=6), st.data())
def test_any_line_ends_cut_anywhere_yield_the_reference_payloads(events, data):
    stream = b"".join(b"".join(line + end for line in lines) + end for lines, end in events)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert split(stream, cuts) == reference(stream)


@given(st.lists(LINES, min_size=1, max_size=3), ENDS, st.data())
def test_a_last_event_without_blank_line_is_not_lost(lines, end, data):
    stream = end.join(lines)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
    assert split(stream, cuts) == reference(stream)


def test_a_byte_order_mark_is_skipped():
    assert split(b"\xef\xbb\xbfdata: a\n\n", []) == [b"a"]


def test_a_comment_tells_that_the_upstream_is_alive():
    assert split(b": ping\n\n", []) == [b""]


def test_an_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "EVENT_MAX", 100)
    splitter = sse.Splitter()
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(sse.EventTooLong):
        splitter.feed(b"x" * 20)
