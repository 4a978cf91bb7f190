"""Amazon's event framing: read like botocore reads it, wherever it is cut, and refused when damaged."""

import json

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from tests.support.eventstreams import chunk, exception, message

from tollway.core.relay import BadAnswer
from tollway.upstream.platforms.eventstream import MESSAGE_MAX, EventStream

EVENTS = [
    {"type": "message_start", "message": {"id": "msg_1"}},
    {"type": "content_block_delta", "delta": {"text": "a\n\ndata: b\u2028é"}},
    {"type": "ping"},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
]
STREAM = b"".join(map(chunk, EVENTS))


def events(text: bytes) -> list[tuple[str, dict]]:
    found = []
    for block in text.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


WANTED = [(event["type"], event) for event in EVENTS]


def test_our_messages_are_what_botocore_reads():
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)
    assert [one.headers[":event-type"] for one in buffer] == ["chunk"] * len(EVENTS)


def test_events_come_out_whole():
    assert events(EventStream()(STREAM)) == WANTED


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_stream_is_cut(cuts):
    feed = EventStream()
    at, out = 0, b""
    for cut in [*sorted(cuts), len(STREAM)]:
        out += feed(STREAM[at:cut])
        at = cut
    assert events(out) == WANTED


def test_byte_by_byte():
    feed = EventStream()
    assert events(b"".join(feed(STREAM[at : at + 1]) for at in range(len(STREAM)))) == WANTED


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_noticed(at, change):
    damaged = bytearray(STREAM)
    damaged[at] ^= change
    try:
        found = events(EventStream()(bytes(damaged)))
    except BadAnswer:
        return
    # A damaged length can only make it wait for bytes that never come.
    assert found == WANTED[: len(found)] and len(found) < len(WANTED)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("throttlingException", "rate_limit_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("modelTimeoutException", "timeout_error"),
        ("validationException", "invalid_request_error"),
        ("internalServerException", "api_error"),
        ("modelStreamErrorException", "api_error"),
        ("somethingNew", "api_error"),
    ],
)
def test_an_exception_becomes_an_error_event(kind, word):
    [(name, body)] = events(EventStream()(exception(kind, "too busy")))
    assert name == "error"
    assert body == {"type": "error", "error": {"type": word, "message": f"{kind}: too busy"}}


def test_an_error_message_tells_itself_in_its_headers():
    head = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "broken"}
    [(name, body)] = events(EventStream()(message(head, b"")))
    assert (name, body["error"]["message"]) == ("error", "InternalFailure: broken")


def test_an_exception_without_words_is_one_all_the_same():
    head = {":message-type": "exception", ":exception-type": "x"}
    [(name, body)] = events(EventStream()(message(head, b"<html>")))
    assert (name, body["error"]["type"]) == ("error", "api_error")


def test_messages_that_mean_nothing_are_skipped():
    head = {":message-type": "event", ":event-type": "initial-response"}
    assert EventStream()(message(head, b"{}") + STREAM) == EventStream()(STREAM)


def test_other_kinds_of_header_are_skipped():
    import struct
    from zlib import crc32

    strings = message({":event-type": "chunk", ":message-type": "event"}, b"")[12:-4]
    block = (
        b"\x01a\x00" + b"\x01b\x04" + b"\0" * 4 + b"\x01c\x06\x00\x02xy" + b"\x01d\x09" + b"\0" * 16 + strings
    )
    payload = chunk(b'{"type":"ping"}')
    payload = payload[12 + struct.unpack(">I", payload[4:8])[0] : -4]
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    body = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    assert events(EventStream()(body + struct.pack(">I", crc32(body)))) == [("ping", {"type": "ping"})]


@pytest.mark.parametrize(
    "bad",
    [
        message({":event-type": "chunk"}, b"not json"),
        message({":event-type": "chunk"}, b"[]"),
        message({":event-type": "chunk"}, b"{}"),
        message({":event-type": "chunk"}, b'{"bytes":"***"}'),
        message({":event-type": "chunk"}, b'{"bytes":7}'),
        chunk(b"not json"),
        chunk(b"[1]"),
    ],
)
def test_a_chunk_without_an_event_is_refused(bad):
    with pytest.raises(BadAnswer):
        EventStream()(bad)


def test_an_impossible_size_is_refused_before_it_is_waited_for():
    import struct
    from zlib import crc32

    for size, headers in ((MESSAGE_MAX + 1, 0), (16, 1), (0, 0), (15, 0)):
        prelude = struct.pack(">II", size, headers)
        with pytest.raises(BadAnswer):
            EventStream()(prelude + struct.pack(">I", crc32(prelude)))


def test_a_type_cannot_smuggle_an_event():
    out = EventStream()(chunk({"type": "ping\ndata: {}\n\nevent: message_stop"}))
    assert out.count(b"\n\n") == 1 and not out.startswith(b"event")
