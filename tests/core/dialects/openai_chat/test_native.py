"""The native relay: bytes pass, the model is renamed, usage is counted, held back and priced."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.dialects.openai_chat.native import NativeStream, NativeWhole, read_whole
from tollway.core.errors import GatewayError
from tollway.core.exchange import Answered, Counted, Failed, Finished, Grew, Started, Usage
from tollway.core.relay import BadAnswer, Receipt
from tollway.flows.call import Tally

RECEIPT = Receipt(cost=1.25, estimated=False, input=3, output=2)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "theirs",
        "choices": choices,
        **more,
    }


def wire(*payloads, end="\n\n", compact=True):
    separators = (",", ":") if compact else (", ", ": ")
    texts = [one if isinstance(one, str) else json.dumps(one, separators=separators) for one in payloads]
    return "".join(f"data: {text}{end}" for text in texts).encode()


PLAIN = [
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"content": "Hel"}, usage=None, obfuscation="xyz"),
    chunk({"content": "lö"}, usage=None, vendor={"deep": [1]}),
    chunk({}, "stop", usage=None),
    chunk(usage=USAGE, service_tier="x"),
    "[DONE]",
]


def relay(stream, cuts=(), *, include_usage=True, receipt=RECEIPT):
    native, out, events, start = NativeStream("ours", include_usage=include_usage), b"", [], 0
    for cut in [*sorted(cuts), len(stream)]:
        fed = native.feed(stream[start:cut])
        out, events, start = out + fed.out, events + fed.events, cut
    fed = native.end()
    return out + fed.out + native.close(receipt), events + fed.events


def sent(out):
    assert out.endswith(b"\n\n")
    return [
        json.loads(block[6:]) if block != b"data: [DONE]" else "[DONE]" for block in out.split(b"\n\n")[:-1]
    ]


def test_every_unknown_field_survives_and_only_model_and_usage_change():
    out, _ = relay(wire(*PLAIN))
    expected = [{**one, "model": "ours"} for one in PLAIN[:-1]]
    expected[-1]["usage"] = {**USAGE, "cost": 1.25}
    assert sent(out) == [*expected, "[DONE]"]


def test_usage_nobody_asked_for_is_taken_out():
    out, events = relay(wire(*PLAIN), include_usage=False)
    assert b"usage" not in out
    assert [one for one in events if isinstance(one, Counted)][0].usage.output == 2
    assert sent(out)[-1] == "[DONE]"


def test_the_events_tell_what_billing_needs():
    _, events = relay(wire(*PLAIN))
    assert events[:3] == [Started("c1", "theirs"), Grew(3), Grew(3)]
    assert events[3] == Finished("stop", "stop")
    assert isinstance(events[4], Counted)


@given(
    st.lists(st.integers(0, 1200), max_size=12), st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]), st.booleans()
)
def test_any_chunking_and_line_end_gives_the_same_bytes_and_events(cuts, end, compact):
    stream = wire(*PLAIN, end=end, compact=compact)
    out, events = relay(stream, [cut % (len(stream) + 1) for cut in cuts])
    plain_out, plain_events = relay(wire(*PLAIN))
    assert (sent(out), events) == (sent(plain_out), plain_events)


def test_everything_generated_counts_not_only_text():
    call = [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]
    deltas = [
        {"tool_calls": call},
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"refusal": "no"},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "AAAA"}},
    ]
    silent = [{"tool_calls": None}, {"tool_calls": []}, {"content": None, "audio": None}, {}]
    stream = wire(*[chunk(delta) for delta in [*deltas, *silent]], chunk({}, "stop"), "[DONE]")
    out, events = relay(stream, include_usage=False)
    assert len([one for one in events if isinstance(one, Grew)]) == len(deltas)
    assert [one["choices"][0]["delta"] for one in sent(out)[: len(deltas)]] == deltas


def test_the_usage_chunk_is_held_back_until_the_bill_is_settled():
    native = NativeStream("ours", include_usage=True)
    fed = native.feed(wire(*PLAIN))
    assert b"prompt_tokens" not in fed.out
    assert b"[DONE]" not in fed.out


def test_running_totals_on_every_chunk_end_up_in_one_last_usage_chunk():
    stream = wire(
        chunk({"content": "a"}, usage={**USAGE, "completion_tokens": 1}),
        chunk({"content": "b"}, "stop", usage=USAGE),
        "[DONE]",
    )
    out, events = relay(stream)
    chunks = sent(out)
    assert [one.get("usage") for one in chunks[:-2]] == [None, None]
    assert chunks[-2]["usage"]["completion_tokens"] == 2
    assert [one.usage.output for one in events if isinstance(one, Counted)] == [1, 2]


def test_a_chunk_after_usage_follows_the_usage_chunk():
    late = chunk(usage=None, moderation={"flagged": False})
    out, _ = relay(wire(*PLAIN[:-1], late, "[DONE]"))
    assert [("moderation" in one) for one in sent(out)[-3:-1]] == [False, True]


def test_missing_usage_is_estimated_and_says_so():
    out, _ = relay(wire(*PLAIN[:4], "[DONE]"), receipt=Receipt(0.00001, True, 3, 2))
    usage = sent(out)[-2]["usage"]
    assert usage == {**USAGE, "cost": 0.00001, "estimated": True}


def test_a_missing_done_after_a_finish_reason_is_a_complete_answer():
    out, _ = relay(wire(*PLAIN[:-1]))
    assert sent(out)[-1] == "[DONE]"


@pytest.mark.parametrize("upto", range(4))
def test_a_stream_that_just_ends_is_never_a_success(upto):
    with pytest.raises(BadAnswer):
        relay(wire(*PLAIN[: min(upto, 3)]))


def test_every_cut_before_the_finish_is_noticed_and_never_yields_half_an_event():
    stream = wire(*PLAIN)
    finish_at = stream.index(b'"finish_reason":"stop"')
    for cut in range(finish_at):
        native = NativeStream("ours", include_usage=True)
        out = native.feed(stream[:cut]).out
        assert out == b"" or out.endswith(b"\n\n")
        with pytest.raises(BadAnswer):
            native.end()


def test_an_in_band_error_is_an_event_and_never_forwarded_as_it_came():
    native = NativeStream("ours", include_usage=False)
    fed = native.feed(wire({"error": {"message": "boom sk-secret", "code": "overloaded"}}))
    assert fed.out == b""
    assert fed.events == [
        Failed("overloaded", "boom sk-secret", {"code": "overloaded", "message": "boom sk-secret"})
    ]


def test_a_comment_keeps_the_client_waiting_too():
    assert NativeStream("ours", include_usage=False).feed(b": ping\n\n").out == b": keep-alive\n\n"


@pytest.mark.parametrize("change", [b'"usage":{}', b'"model" : "theirs"'])
def test_an_event_that_must_be_read_in_full_and_cannot_is_a_bad_answer(change):
    with pytest.raises(BadAnswer):
        NativeStream("ours", include_usage=False).feed(b'data: {"x":"\xff",%b}\n\n' % change)


@pytest.mark.parametrize("payload", ["not json", "[1]", '{"choices":5}', '{"id":[]}'])
def test_an_event_that_is_no_chunk_is_a_bad_answer(payload):
    with pytest.raises(BadAnswer):
        NativeStream("ours", include_usage=False).feed(wire(payload))


def test_a_failed_stream_ends_with_the_error_and_no_terminator():
    last = NativeStream("ours", include_usage=False).fail(
        GatewayError("stream_interrupted", "It broke."), "req_1"
    )
    (error,) = sent(last)
    assert error["error"]["code"] == "stream_interrupted"
    assert error["error"]["request_id"] == "req_1"


WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "model": "theirs",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi", "custom": 1}, "finish_reason": "stop"}
    ],
    "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 1}},
    "vendor": {"x": None},
}


def whole(body, receipt=RECEIPT):
    native = NativeWhole("ours")
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    for byte in (raw[:5], raw[5:]):
        native.feed(byte)
    events = native.end().events
    return native, events


def test_a_whole_answer_keeps_every_field_and_gains_its_cost():
    native, events = whole(WHOLE)
    answer = json.loads(native.close(RECEIPT))
    assert answer == {**WHOLE, "model": "ours", "usage": {**WHOLE["usage"], "cost": 1.25}}
    assert events == [Answered(2, "stop", Usage(input=3, output=2, reasoning=1))]


@given(
    st.lists(st.fixed_dictionaries({
        "message": st.fixed_dictionaries({"content": st.sampled_from(["", None, "Hi", "ä", [1]])}),
        "finish_reason": st.sampled_from([None, "stop", "content_filter", "new"]),
    }), min_size=1, max_size=2),
    st.sampled_from([None, {}, USAGE, {"prompt_tokens": -1}]),
)  # fmt: skip
def test_a_usual_answer_counts_as_its_events_do(choices, usage):
    def counted(events):
        tally = Tally()
        tally.see(events)
        return [getattr(tally, name) for name in Tally.__slots__]

    body = {"id": "c1", "choices": choices, "usage": usage}
    assert counted(whole(body)[1]) == counted(read_whole(body, choices))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[]",
        b'"x"',
        b'{"choices":[]}',
        b'{"choices":[1]}',
        b'{"choices":[{}]}',
        b"\xff",
        b"{" * 2000,
    ],
)
def test_what_is_no_answer_is_a_bad_answer(body):
    with pytest.raises(BadAnswer):
        whole(body)


def test_an_error_object_with_status_200_is_a_failure():
    _, events = whole({"error": {"message": "no", "type": "overloaded"}})
    assert events == [Failed("overloaded", "no", {"code": "overloaded", "message": "no"})]
