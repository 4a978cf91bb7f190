"""A stream of Messages read by what repeats in its events comes out as one of which every event is read in full."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.dialects.openai_chat.test_repeats import TEXTS, carried, fed

from tollway.core.dialects import repeats
from tollway.core.dialects.anthropic.native import NativeStream
from tollway.core.exchange import Grew


class Thorough(NativeStream):
    """Reads every event in full."""

    def _learn(self, event, delta, payload):
        pass


START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"id":"m","model":"theirs","usage":{"input_tokens":2}}}\n\n'
)
USUAL = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}'
SHAPES = [
    USUAL,
    b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "%b"}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"%b"}}',
    b'{"type":"content_block_delta","delta":{"text":"twice","text":"%b"}}',
    b'{"type":"content_block_delta","delta":{"text":"%b","text":"word"}}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},"delta":{"text":"word"}}',
    b'{"type":"content_block_delta","delta":{"a\\"text":"word","text":"%b"}}',
    b'{"type":"content_block_delta","delta":{"text":"%b","thinking":"hm"}}',
    b'{"type":"content_block_delta","delta":{"thinking":"%b"}}',
    b'{"type":"content_block_delta","delta":{"partial_json":"%b"}}',
    b'{"type":"content_block_delta","text":"%b"}',
    b'{"type":"content_block_delta","delta":"%b"}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},"x":"\\ud83d"}',
    b'{"type":"content_block_delta","delta":{"text":"%b","thinking":"\\ud83d"}}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},"x":"tollway\\/probe"}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},\ndata: "x":1}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},\n"x":1}',
    b'{"type":"content_block_delta","delta":{"text":"%b"},"type":"ping"}',
    b'{"type":"ping","delta":{"text":"%b"}}',
    b'{"type":"x","text":"%b"}',
]
BETWEEN = [
    b'{"type":"ping"}',
    b'{"type":"content_block_stop","index":0}',
    b'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}',
    b'{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f","input":{}}}',
    b'{"type":"message_delta","delta":{},"usage":{"output_tokens":3}}',
    b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}',
    b'{"type":"message_stop"}',
    b'{"type":"error","error":{"type":"overloaded_error","message":"full"}}',
    b'{"type":"message_start","message":{"id":"m"}}',
    b'{"type":"message_start","message":{"id":"other"}}',
    b"",
    b"{",
]
LEADS = [b"event: content_block_delta\ndata: ", b"data: ", b"event: other\ndata: ", b": x\ndata: "]
ENDS = [b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n\n\n"]


@st.composite
def streams(draw):
    """Runs of events that differ in their text alone, with anything between them."""
    lead, end = draw(st.sampled_from(LEADS[:1] * 3 + LEADS)), draw(st.sampled_from(ENDS))
    blocks = [START] if draw(st.integers(0, 9)) else []
    for shape in draw(st.lists(st.sampled_from([USUAL] * 9 + SHAPES), min_size=1, max_size=5)):
        texts = draw(st.lists(TEXTS | st.sampled_from([b"word", b" and", b"more"]), min_size=1, max_size=6))
        blocks += [lead + shape.replace(b"%b", text) + end for text in (b"word", *texts)]
        blocks += [b"data: " + one + end for one in draw(st.lists(st.sampled_from(BETWEEN), max_size=1))]
    stream = b"".join(blocks)
    places = st.integers(0, len(stream)) if draw(st.booleans()) else st.sampled_from([0, *ends_of(blocks)])
    cuts = ends_of(blocks)[:-1] if draw(st.booleans()) else sorted(draw(st.lists(places, max_size=6)))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def ends_of(blocks):
    return list(itertools.accumulate(map(len, blocks)))


def both(chunks):
    """What came of the chunks, and what came last, read by what repeats and read in full."""
    found = []
    for kind, *way in ((NativeStream,), (NativeStream, carried), (Thorough,)):
        relay = kind("ours", "T0ken")
        found.append((fed(relay, chunks, *way), relay._before, relay._told, relay._after))
    quick, quicker, thorough = found
    assert quick == quicker
    return quick, thorough


@settings(max_examples=600)
@given(streams())
def test_a_stream_read_by_what_repeats_is_the_stream_read_in_full(chunks):
    quick, thorough = both(chunks)
    assert quick == thorough


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lead", LEADS)
def test_no_shape_of_an_event_is_taken_for_another(shape, lead):
    texts = [
        b"first",
        b"word",
        b"word",
        b"longer words",
        b"",
        "ü\\n".encode(),
        b'a","b',
        b"\\ud83d",
        b"\xff",
        b"word",
    ]
    events = [lead + shape.replace(b"%b", text) + b"\n\n" for text in texts]
    for pieces in ([START, *events], [START, events[0], events[1], b"".join(events[2:])]):
        quick, thorough = both(pieces)
        assert quick == thorough


@pytest.mark.parametrize("ending", BETWEEN[5:8])
def test_text_after_the_end_has_begun_waits_or_is_not_looked_at(ending):
    event = LEADS[0] + USUAL.replace(b"%b", b"word") + b"\n\n"
    relay = NativeStream("ours", "T0ken")
    relay.feed(START + event)
    assert relay.feed(event).out == event
    relay.feed(b"data: " + ending + b"\n\n")
    assert relay.feed(event).out == b""
    assert relay._frames.last is None


@pytest.mark.parametrize("ending", BETWEEN[5:8])
@pytest.mark.parametrize("before", [0, 2])
def test_text_that_comes_together_with_the_end_waits_or_is_not_looked_at(ending, before):
    event = LEADS[0] + USUAL.replace(b"%b", b"word") + b"\n\n"
    quick, thorough = both([START + event, event * before + b"data: " + ending + b"\n\n" + event * 2, event])
    assert quick == thorough


@pytest.mark.parametrize("tail", [b"data: ", b"event: x\n", b": x", b"x", b"\r", b"data: {}\n"])
def test_an_event_that_begins_where_another_is_not_complete_is_none(tail):
    event = LEADS[0] + USUAL.replace(b"%b", b"word") + b"\n\n"
    quick, thorough = both([START + event, event, event + tail, event, event])
    assert quick == thorough


def test_usual_events_are_carried_until_the_end_begins():
    relay = NativeStream("ours", "T0ken")
    events = [LEADS[0] + USUAL.replace(b"%b", b"w" * at) + b"\n\n" for at in range(1, 19)]
    relay.feed(START + events[0])
    feed, relay.feed = relay.feed, None
    for at, one in enumerate(events):
        found = carried(relay, one)
        assert (found.out, found.events) == (one, [Grew(at + 1, 1)])
    feed(b"data: " + BETWEEN[5] + b"\n\n")
    assert relay.carrier is None


@pytest.mark.parametrize("together", [1, 3])
def test_events_that_differ_in_their_text_are_not_read_in_full(together):
    relay = NativeStream("ours", "T0ken")
    events = [LEADS[0] + USUAL.replace(b"%b", b"w" * at) + b"\n\n" for at in range(1, 19)]
    relay.feed(START + events[0])
    relay._take = None
    for at in range(0, 18, together):
        found = relay.feed(b"".join(events[at : at + together]))
        assert found.out == b"".join(events[at : at + together])
        assert found.events == [Grew(sum(range(at + 1, at + together + 1)), together)]


def test_one_frame_is_enough_for_events_that_came_with_others_or_in_pieces():
    relay = NativeStream("ours", "T0ken")
    event = LEADS[0] + USUAL.replace(b"%b", b"word") + b"\n\n"
    relay.feed(START + event)
    made = relay._frames.last
    relay.feed(b"data: " + BETWEEN[0] + b"\n\n" + event * 9 + event[:30])
    relay.feed(event[30:] + event * 9 + event[:30])
    assert relay._frames.last is made is not None


def test_frames_that_never_serve_are_neither_made_nor_kept_for_ever():
    relay = NativeStream("ours", "T0ken")
    relay.feed(START)
    made = set()
    for at in range(20):
        relay.feed(
            LEADS[0] + USUAL.replace(b'"index":0', b'"index":%d' % at).replace(b"%b", b"word") + b"\n\n"
        )
        made.add(relay._frames.last)
    assert relay._frames.last is None
    assert len(made - {None}) == repeats.WASTED_MAX
