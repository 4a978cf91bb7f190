"""A stream read by what repeats in its events comes out as one of which every event is read in full."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.core.dialects import repeats
from tollway.core.dialects.openai_chat.native import NativeStream
from tollway.core.exchange import Grew
from tollway.core.relay import BadAnswer


class Thorough(NativeStream):
    """Reads every event in full."""

    def _learn(self, chunk, payload):
        pass


EVENT = b'{"id":"c1","object":"chat.completion.chunk","created":7,"model":%b,"choices":[%b]%b}'
CHOICES = [
    b'{"index":0,"delta":{"content":"%b"},"finish_reason":null}',
    b'{"index":0,"delta":{"content": "%b"},"finish_reason":null}',
    b'{"index":0,"delta":{"role":"assistant","content":"%b","refusal":null,"tool_calls":[]},"finish_reason":null}',
    b'{"index":0,"delta":{"content":"twice","content":"%b"},"finish_reason":null}',
    b'{"index":0,"delta":{"content":"%b","content":"twice"},"finish_reason":null}',
    b'{"index":0,"delta":{"content":"%b","content":"word"},"finish_reason":null}',
    b'{"index":0,"delta":{"a\\"content":"x"},"delta":{"content":"%b"}}',
    b'{"index":0,"delta":{"content":"%b","reasoning":"hm"}}',
    b'{"index":0,"delta":{"content":"%b","tool_calls":[{"index":0}]}}',
    b'{"index":0,"delta":{"content":"%b"},"finish_reason":"stop"}',
    b'{"index":0,"delta":{"content":"%b"}},{"index":1,"delta":{"content":"other"}}',
    b'{"index":0,"delta":{"content":"%b"},"logprobs":{"content":"%b"}}',
    b'{"index":0,"text":"%b"}',
    b"",
]
MODELS = [b'"theirs"', b'"ours"', b'"a\\"content\\":\\"b"', b'"\\u0074heirs"', b"null", b'"x","model" : "y"']
ENDS = [
    b"",
    b',"usage":null',
    b',"usage":null,"obfuscation":"xyz"',
    b',"model":"again"',
    b',"id":""',
    b',"id":null',
    b',"error":null,"usage":{"prompt_tokens":1,"completion_tokens":1}',
    b',"x":"tollway\\/probe"',
    b',"x":"a',
]
TEXTS = st.lists(
    st.sampled_from(
        [b"word", b" ", "ü".encode(), "😀".encode(), b"\\n", b'\\"', b"\\u00fc", b"\\/", b"\\ud83d", b"\\", b'"', b"\n"]
        + [b"\x00", b"\xff", b"\xc3", b"\xbc", b"\x7f", b'","', b'"}', b"\n\n", b"\n\ndata: ", b"\r", b'\\"model\\":\\"theirs\\"']
        + ["\u2028\ufeff".encode(), b"\xed\xa0\x80", b"null", b"tollway/probe", b"tollway\\/probe", b',"usage":null']
    ),
    max_size=3,
).map(b"".join)  # fmt: skip
SHAPES = st.tuples(st.sampled_from(CHOICES), st.sampled_from(MODELS), st.sampled_from(ENDS))
USUAL = st.tuples(st.sampled_from(CHOICES[:2]), st.sampled_from(MODELS[:2]), st.sampled_from(ENDS[:2]))


def event(shape, text):
    choice, model, end = shape
    return EVENT % (model, choice.replace(b"%b", text), end)


@st.composite
def streams(draw):
    """Runs of events that differ in their text alone, with anything between them."""
    payloads = [event((CHOICES[0], MODELS[0], ENDS[0]), b"")] if draw(st.booleans()) else []
    for shape in draw(st.lists(USUAL | SHAPES, min_size=1, max_size=4)):
        texts = draw(st.lists(TEXTS | st.sampled_from([b"word", b" and", b"more"]), min_size=1, max_size=6))
        payloads += [event(shape, b"word"), *(event(shape, text) for text in texts)]
        payloads += draw(st.lists(st.sampled_from([b"[DONE]", b"", b"{}", b"\n\ndata: "]), max_size=1))
    end = draw(st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\n\n"]))
    blocks = [b"data: " + payload + end for payload in payloads]
    if draw(st.booleans()):
        return blocks
    stream = b"".join(blocks)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def fed(relay, chunks):
    """What came of each chunk, up to the first that was refused."""
    found = []
    try:
        for chunk in chunks:
            one = relay.feed(chunk)
            found.append((one.out, one.events))
        one = relay.end()
        found.append((one.out, one.events))
    except BadAnswer as error:
        found.append(str(error))
    return found


@settings(max_examples=600)
@given(streams(), st.booleans())
def test_a_stream_read_by_what_repeats_is_the_stream_read_in_full(chunks, include_usage):
    quick, thorough = (kind("ours", include_usage=include_usage) for kind in (NativeStream, Thorough))
    assert fed(quick, chunks) == fed(thorough, chunks)


@pytest.mark.parametrize("choice", CHOICES)
def test_no_shape_of_an_event_is_taken_for_another(choice):
    texts = [b"first", b"word", b"word", b"longer words", b"", "ü\\n".encode(), b'a","b', b"\xff", b"word"]
    for model, end in itertools.product(MODELS, ENDS):
        chunks = [b"data: " + event((choice, model, end), text) + b"\n\n" for text in texts]
        quick, thorough = (kind("ours", include_usage=False) for kind in (NativeStream, Thorough))
        for pieces in (chunks, [chunks[0], chunks[1], b"".join(chunks[2:])]):
            assert fed(quick, pieces) == fed(thorough, pieces)


FIRST, LAST = b'data: {"delta":{"content":"', b'"},"model":"theirs"}'
OUR_LAST = b'"},"model":"ours"}'


def frame():
    return repeats.Frame(b"data: ", (FIRST[6:], LAST), (FIRST[6:], OUR_LAST))


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_frame_passes_any_text_on_and_weighs_it(texts):
    spelled = [json.dumps(text, ensure_ascii=len(text) % 2 == 0)[1:-1].encode() for text in texts]
    found = frame().feed(b"".join(FIRST + text + LAST + b"\n\n" for text in spelled))
    assert found.out == b"".join(FIRST + text + OUR_LAST + b"\n\n" for text in spelled)
    assert found.events == [Grew(len(text.encode())) for text in texts if text]


@pytest.mark.parametrize(
    "chunk",
    [
        FIRST + LAST[1:] + b"\n\n",
        FIRST[:-1] + LAST + b"\n\n",
        FIRST + b"a" + LAST + b"\n",
        FIRST + b"a" + LAST + b"\n\n" + FIRST + b"a",
        FIRST + b"a" + LAST + b"\n\n: ping\n\n" + FIRST + b"a" + LAST + b"\n\n",
        FIRST + b"a" + LAST + b"\ndata: \n" + FIRST + b"a" + LAST + b"\n\n",
        FIRST + b"\xc3" + LAST + b"\n\n" + FIRST + b"\xbc" + LAST + b"\n\n",
        FIRST + b"\\" + LAST + b"\n\n" + FIRST + b"," + b'"a' + LAST + b"\n\n",
        FIRST + b"\\ud83d" + LAST + b"\n\n" + FIRST + b"\\ude00" + LAST + b"\n\n",
    ],
)
def test_what_is_not_wholly_of_a_frame_is_left_alone(chunk):
    assert frame().feed(chunk) is None


def test_payloads_of_several_lines_are_left_alone():
    assert frame().feed_split([FIRST[6:] + b"a" + LAST + b"\n\n" + FIRST + b"a" + LAST]) is None


def test_frames_that_never_serve_are_not_made_for_ever():
    relay = NativeStream("ours", include_usage=True)
    for at in range(20):
        relay.feed(b"data: %b\n\n" % event((CHOICES[0], b'"m%d"' % at, ENDS[0]), b"word"))
    assert relay._wasted == repeats.WASTED_MAX
