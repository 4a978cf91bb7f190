"""A stream read by what repeats in its events comes out as one of which every event is read in full."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.core.dialects import repeats
from tollway.core.dialects.openai_chat.native import NativeStream
from tollway.core.exchange import Grew
from tollway.core.relay import BadAnswer, Fed
from tollway.flows.call import Tally


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
NOISY = [b',"usage":null,"obfuscation":"%o"', b',"obfuscation":"%o"', b',"usage":null, "obfuscation": "%o"']
ODDLY_NOISY = [
    b',"obfuscation":"%o","model":"again"',
    b',"obfuscation":"%o","usage":null,"x":1',
    b',"obfuscation":"%o","obfuscation":"%o"',
    b',"obfuscation":"%o","choices":[{"delta":{"content":"word"}}]',
    b',"x":{"obfuscation":"%o"}',
    b',"a\\"obfuscation":"%o"',
    b',"x":",\\"obfuscation\\":\\"%o"',
    b',"obfuscation":"tollway\\/noise%o"',
    b',"obfuscation":"\\/%o"',
    b',"obfuscation":"%o',
    b',"obfuscation":%o',
    b',"usage":{"obfuscation":"%o"}',
    b',"error":{"obfuscation":"%o"}',
]
NOISES = st.text("aB3_-", max_size=9).map(str.encode)
HOSTILE = st.sampled_from(
    [b'"', b"\\", b'\\"', b'\\\\"', b'","x":"', b'","model":"ours', b'","obfuscation":"', b'\\",\\"obfuscation\\":\\"']
    + [b'"},"finish_reason":null}],"obfuscation":"', b"\n", b"\xff", b"\\ud83d", "ü".encode(), b'"}\n\ndata: {"', b',"usage":null']
    + [b"tollway\\/probe", b"tollway\\/noise", b'"}', b"\x00", b"null"]
)  # fmt: skip
TEXTS = st.lists(
    st.sampled_from(
        [b"word", b" ", "ü".encode(), "😀".encode(), b"\\n", b'\\"', b"\\u00fc", b"\\/", b"\\ud83d", b"\\", b'"', b"\n"]
        + [b"\x00", b"\xff", b"\xc3", b"\xbc", b"\x7f", b'","', b'"}', b"\n\n", b"\n\ndata: ", b"\r", b'\\"model\\":\\"theirs\\"']
        + ["\u2028\ufeff".encode(), b"\xed\xa0\x80", b"null", b"tollway/probe", b"tollway\\/probe", b',"usage":null']
        + [b'","obfuscation":"', b'\\",\\"obfuscation\\":\\"', b'"},"finish_reason":null}],"obfuscation":"', b"tollway\\/noise"]
    ),
    max_size=3,
).map(b"".join)  # fmt: skip
SHAPES = st.tuples(
    st.sampled_from(CHOICES), st.sampled_from(MODELS), st.sampled_from(ENDS + NOISY + ODDLY_NOISY)
)
USUAL = st.tuples(
    st.sampled_from(CHOICES[:2]), st.sampled_from(MODELS[:2]), st.sampled_from(ENDS[:2] + NOISY)
)


def event(shape, text, noise=b"xyz"):
    choice, model, end = shape
    return EVENT % (model, choice.replace(b"%b", text), end.replace(b"%o", noise))


@st.composite
def streams(draw):
    """Runs of events that differ in their text and their noise alone, with anything between them."""
    payloads = [event((CHOICES[0], MODELS[0], ENDS[0]), b"")] if draw(st.booleans()) else []
    for shape in draw(st.lists(USUAL | SHAPES, min_size=1, max_size=4)):
        texts = draw(st.lists(TEXTS | st.sampled_from([b"word", b" and", b"more"]), min_size=1, max_size=6))
        payloads += [event(shape, b"word", draw(NOISES | HOSTILE))]
        payloads += [event(shape, text, draw(NOISES | HOSTILE)) for text in texts]
        payloads += draw(st.lists(st.sampled_from([b"[DONE]", b"", b"{}", b"\n\ndata: "]), max_size=1))
    end = draw(st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\n\n"]))
    blocks = [b"data: " + payload + end for payload in payloads]
    if draw(st.booleans()):
        return blocks
    stream = b"".join(blocks)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    if draw(st.booleans()):
        # Whole events, several together.
        ends = list(itertools.accumulate(map(len, blocks)))
        cuts = sorted(draw(st.lists(st.sampled_from(ends), max_size=4)))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def merged(events):
    """Events, with those of growth that follow each other in one."""
    found = []
    for one in events:
        if found and type(one) is type(found[-1]) is Grew:
            one = Grew(found[-1].size + one.size, found.pop().times + one.times)
        found.append(one)
    return found


def carried(relay, *chunks):
    """What comes of chunks that arrive whole and together, with their framing: carried or fed."""
    count = Tally()
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    out = relay.carrier.carry(framed, count) if all(chunks) and relay.carrier is not None else b""
    if not out:
        assert (count.chunks, count.size) == (0, 0)
        return relay.feed(b"".join(chunks))
    size, _, rest = out.partition(b"\r\n")
    assert rest.endswith(b"\r\n")
    assert size == b"%x" % (len(rest) - 2)
    return Fed(rest[:-2], [Grew(count.size, count.chunks)] if count.chunks else [])


def fed(relay, chunks, feed=lambda relay, chunk: relay.feed(chunk)):
    """What came of each chunk, up to the first that was refused."""
    found = []
    try:
        for chunk in chunks:
            one = feed(relay, chunk)
            found.append((one.out, merged(one.events)))
        one = relay.end()
        found.append((one.out, merged(one.events)))
    except BadAnswer as error:
        found.append(str(error))
    return found


def check(chunks, include_usage=False):
    """However a stream is read, the same comes of it."""
    wanted = fed(Thorough("ours", include_usage=include_usage), chunks)
    assert fed(NativeStream("ours", include_usage=include_usage), chunks) == wanted
    assert fed(NativeStream("ours", include_usage=include_usage), chunks, carried) == wanted


@settings(max_examples=600)
@given(streams(), st.booleans())
def test_a_stream_read_by_what_repeats_is_the_stream_read_in_full(chunks, include_usage):
    check(chunks, include_usage)


@pytest.mark.parametrize("choice", CHOICES)
def test_no_shape_of_an_event_is_taken_for_another(choice):
    texts = [b"first", b"word", b"word", b"longer words", b"", "ü\\n".encode(), b'a","b', b"\xff", b"word"]
    for model, end in itertools.product(MODELS, ENDS + NOISY + ODDLY_NOISY):
        noises = itertools.cycle([b"aB3", b"", b"x", b"longer"])
        chunks = [b"data: " + event((choice, model, end), text, next(noises)) + b"\n\n" for text in texts]
        for pieces in (chunks, [chunks[0], chunks[1], b"".join(chunks[2:])]):
            check(pieces)


@pytest.mark.parametrize("end", NOISY)
@pytest.mark.parametrize("model", MODELS[:2])
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("include_usage", [True, False])
def test_events_that_differ_in_their_noise_are_not_read_in_full(end, model, together, include_usage):
    relay = NativeStream("ours", include_usage=include_usage)
    events = [b"data: " + event((CHOICES[0], model, end), b"word", b"n" * at) + b"\n\n" for at in range(20)]
    relay.feed(b"".join(events[:2]))
    relay._take = None
    for at in range(2, 20, together):
        fed = relay.feed(b"".join(events[at : at + together]))
        assert fed.events == [Grew(4 * together, together)]
        assert all(
            b'"obfuscation":' + b" " * (b": " in end) + b'"%b"' % (b"n" * one) in fed.out
            for one in range(at, at + together)
        )


@pytest.mark.parametrize("end", [*ENDS[:2], *NOISY])
@pytest.mark.parametrize("include_usage", [True, False])
def test_usual_events_are_carried_and_none_of_them_is_fed(end, include_usage):
    relay, told = (NativeStream("ours", include_usage=include_usage) for _ in range(2))
    for at in range(20):
        chunk = b"data: " + event((CHOICES[0], MODELS[0], end), b"word" * (at + 1), b"n" * at) + b"\n\n"
        wanted = told.feed(chunk)
        if at < 2:
            relay.feed(chunk)
        else:
            relay.feed = None
            assert carried(relay, chunk) == wanted


@pytest.mark.parametrize(
    "mangled",
    [
        lambda framed: framed.replace(b"\r\n", b";x=y\r\n", 1),
        lambda framed: b"0" + framed,
        lambda framed: framed[:2].upper() + framed[2:],
        lambda framed: framed[:-2],
        lambda framed: framed[:-2] + b"\n\n",
        lambda framed: framed + framed[:-1],
        lambda framed: framed[1:] + framed,
        lambda framed: framed + b"1" + framed[1:],
        lambda framed: framed + framed.replace(b"words", b"\xff"),
        lambda framed: framed + framed.replace(b"words", b"\n"),
        lambda framed: framed + framed.replace(b"c1", b"c2"),
        lambda framed: framed + b"0\r\n\r\n",
        lambda framed: framed.replace(b"\r\n", b"\n\n", 1),
        lambda framed: b"%x" % (int(framed[:2], 16) - 1) + framed[2:],
    ],
)
def test_only_chunks_as_servers_write_it_is_carried(mangled):
    relay, count = NativeStream("ours", include_usage=True), Tally()
    chunk = b"data: " + event((CHOICES[0], MODELS[0], b""), b"words" * 3) + b"\n\n"
    relay.feed(chunk)
    relay.feed(chunk)
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    assert framed.startswith(b"a4")
    assert relay.carrier.carry(framed, count)
    assert relay.carrier.carry(mangled(framed), count) == b""
    assert (count.chunks, count.size) == (1, 15)


@pytest.mark.parametrize("end", [*ENDS[:2], *NOISY])
@pytest.mark.parametrize("together", [2, 3, 5])
def test_usual_events_that_came_together_are_carried_as_one_chunk(end, together):
    relay, told = (NativeStream("ours", include_usage=True) for _ in range(2))
    chunks = [
        b"data: " + event((CHOICES[0], MODELS[0], end), b"word" * (at % 4), b"n" * at) + b"\n\n"
        for at in range(1, 60)
    ]
    for chunk in chunks[:2]:
        relay.feed(chunk)
        told.feed(chunk)
    relay.feed = None
    for at in range(2, 57, together):
        some = chunks[at : at + together]
        wanted = told.feed(b"".join(some))
        found = carried(relay, *some)
        assert (found.out, merged(found.events)) == (wanted.out, merged(wanted.events))


@given(
    st.lists(st.tuples(SHAPES | USUAL, TEXTS, NOISES | HOSTILE), min_size=2, max_size=6), USUAL, st.booleans()
)
def test_whatever_comes_together_with_usual_events_reads_the_same(others, shape, include_usage):
    usual = [b"data: " + event(shape, text) + b"\n\n" for text in (b"word", b"and", b"more", b"", b"words")]
    mixed = [b"data: " + event(*one) + b"\n\n" for one in others]
    quick, thorough = (kind("ours", include_usage=include_usage) for kind in (NativeStream, Thorough))
    assert fed(quick, usual) == fed(thorough, usual)
    for some in (usual, [*usual, *mixed], [*mixed, *usual], usual[:1]):
        outcome = []
        for relay, feed in (
            (quick, lambda some: carried(quick, *some)),
            (thorough, lambda some: thorough.feed(b"".join(some))),
        ):
            try:
                found = feed(some)
                outcome.append((found.out, merged(found.events), relay._split.tail))
            except BadAnswer as error:
                outcome.append(str(error))
        assert outcome[0] == outcome[1]
        if type(outcome[0]) is str:
            break


FIRST, BETWEEN, LAST = b'data: {"delta":{"content":"', b'"},"noise":"', b'"},"model":"theirs"}'
OUR_BETWEEN, OUR_LAST = b'"},"ours":"', b'"},"model":"ours"}'


def frame(noisy=False):
    theirs = (FIRST[6:], BETWEEN if noisy else b"", LAST)
    return repeats.Frame(b"data: ", theirs, (FIRST[6:], OUR_BETWEEN if noisy else b"", OUR_LAST))


def spell(text):
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0)[1:-1].encode()


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5), st.booleans())
def test_a_frame_passes_any_text_on_and_weighs_it(texts, noisy):
    def block(text, noise, between, last):
        return FIRST + spell(text) + (between + spell(noise) if noisy else b"") + last + b"\n\n"

    found = frame(noisy).feed(b"".join(block(*one, BETWEEN, LAST) for one in texts))
    assert found.out == b"".join(block(*one, OUR_BETWEEN, OUR_LAST) for one in texts)
    sizes = [len(text.encode()) for text, _ in texts if text]
    assert found.events == ([Grew(sum(sizes), len(sizes))] if sizes else [])


EACH = FIRST + b"a" + LAST + b"\n\n"
NOISY_EACH = FIRST + b"a" + BETWEEN + b"n" + LAST + b"\n\n"


@pytest.mark.parametrize(
    "chunk",
    [
        FIRST + LAST[1:] + b"\n\n",
        FIRST[:-1] + LAST + b"\n\n",
        FIRST + b"a" + LAST + b"\n",
        EACH + FIRST + b"a",
        EACH + b": ping\n\n" + EACH,
        EACH + b"\n" + EACH,
        EACH[:-1] + b"data: \n" + EACH,
        EACH + FIRST + LAST[1:] + b"\n\n",
        FIRST + b"\xc3" + LAST + b"\n\n" + FIRST + b"\xbc" + LAST + b"\n\n",
        FIRST + b"\\" + LAST + b"\n\n" + FIRST + b"," + b'"a' + LAST + b"\n\n",
        FIRST + b"\\ud83d" + LAST + b"\n\n" + FIRST + b"\\ude00" + LAST + b"\n\n",
    ],
)
def test_what_is_not_wholly_of_a_frame_is_left_alone(chunk):
    assert frame().feed(EACH) is not None
    assert frame().feed(chunk) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (b"a", b"n"),
        (b"a" + BETWEEN + b"b", BETWEEN + b"n"),
        (b"a", BETWEEN + b"n" + BETWEEN + b"o"),
        (b"a", BETWEEN[:-1] + b"n"),
        (b"a", BETWEEN[1:] + b"n"),
        (b"a\\", BETWEEN + b"n"),
        (b"a", BETWEEN + b"n\\"),
        (b"a", BETWEEN + b'n"'),
        (b"a", BETWEEN + b'n","model":"other'),
        (b"a", BETWEEN + b"\xff"),
        (b"a", BETWEEN + b"\n"),
        (b"a", BETWEEN + b"\\ud83d"),
        (b"\xff", BETWEEN + b"n"),
        (b'a"', BETWEEN + b"n"),
    ],
)
def test_what_has_not_two_strings_is_left_alone_where_there_is_noise(text, rest):
    chunk = FIRST + text + rest + LAST + b"\n\n"
    assert frame(noisy=True).feed(NOISY_EACH) is not None
    for chunks in (chunk, NOISY_EACH + chunk, chunk + NOISY_EACH, chunk + chunk):
        assert frame(noisy=True).feed(chunks) is None


def test_payloads_of_several_lines_are_left_alone():
    one = FIRST[6:] + b"a" + LAST
    assert frame().feed_split([one + b"\n\ndata: " + one]) is None
    assert frame().feed_split([FIRST[6:] + b"a\nb" + LAST]) is None


def test_payloads_that_end_before_their_text_begins_are_not_of_a_frame():
    assert frame().stop([FIRST[6:] + b"a" + LAST, FIRST[6:-1] + LAST], 0) == 1


@pytest.mark.parametrize("tail", [b"data: ", b"event: x\n", b": x", b"x", b"\r", b"data: {}\n"])
def test_an_event_that_begins_where_another_is_not_complete_is_none(tail):
    one = b"data: " + event((CHOICES[0], MODELS[0], NOISY[0]), b"word") + b"\n\n"
    check([one, one, one, one + tail, one, one], include_usage=True)


def test_frames_that_never_serve_are_neither_made_nor_kept_for_ever():
    relay = NativeStream("ours", include_usage=True)
    made = set()
    for at in range(20):
        relay.feed(b"data: %b\n\n" % event((CHOICES[0], b'"m%d"' % at, ENDS[0]), b"word"))
        made.add(relay._frames.last)
    assert relay._frames.last is None
    assert len(made - {None}) == repeats.WASTED_MAX
