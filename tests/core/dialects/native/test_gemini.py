"""Gemini natively: the model's name in every chunk, running totals, several candidates, arrays, blank lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.dialects.native.relays import RECEIPT, fed, golden_wire, run, sent, stream_of, told, wire
from tests.support.dialects import REPLY

from tollway.core.dialects.gemini.counts import read_counts
from tollway.core.dialects.gemini.stream import FAULTS
from tollway.core.exchange import Counted, Failed, Grew, Started
from tollway.core.relay import BadAnswer, Fed, Receipt


def candidate(*parts, index=0, **members):
    return {"content": {"role": "model", "parts": list(parts)}, "index": index, **members}


def chunk(*candidates, prompt=9, output=1, **members):
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
    found = {"candidates": list(candidates), "usageMetadata": usage, "modelVersion": "m-1", "responseId": "r"}
    return {**found, **members}


HI = chunk(candidate({"text": "Hi"}))
END = chunk(candidate({"text": ""}, finishReason="STOP"), prompt=128, output=4)


def relay(*objects, receipt=RECEIPT, **options):
    out, events = run(stream_of("gemini", **options), wire("gemini", list(objects)), receipt=receipt)
    return sent("gemini", out), events


def test_the_model_is_renamed_in_every_chunk_and_nowhere_else():
    call = {"functionCall": {"name": "f", "args": {"modelVersion": "m-1", "responseId": "r"}}}
    said = {"text": 'Say "modelVersion":"m-1", please'}
    objects, _ = relay(chunk(candidate(call, said)), chunk(candidate(said)), END)
    assert [one["modelVersion"] for one in objects] == [REPLY.model] * 3
    assert objects[0]["candidates"] == [candidate(call, said)]
    assert objects[1]["candidates"] == [candidate(said)]


@pytest.mark.parametrize("version", ["m-2", "m/ü", None, 5])
def test_names_that_change_or_are_none_are_renamed_too(version):
    objects, events = relay(HI, {**HI, "modelVersion": version}, END)
    assert objects[1].get("modelVersion") in (REPLY.model, None)
    assert (objects[1]["modelVersion"] is None) is (version is None)
    assert events[0] == Started("r", "m-1")


def test_a_chunk_without_a_name_or_totals_passes_as_it_came():
    bare = {"candidates": [candidate({"text": "x"})]}
    objects, _ = relay(HI, bare, END)
    assert objects[1] == bare


def test_the_last_totals_win_and_the_same_ones_are_told_once():
    _, events = relay(HI, HI, HI, END)
    counted = [(one.usage.input, one.usage.output) for one in events if isinstance(one, Counted)]
    assert counted == [(9, 1), (128, 4)]


def test_the_end_waits_with_all_that_follows_it():
    late = {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5}, "modelVersion": "m-1"}
    native = stream_of("gemini")
    out, events = fed(native, wire("gemini", [HI, END, late]))
    assert len(sent("gemini", out)) == 1
    last = sent("gemini", native.close(RECEIPT))
    assert [one["modelVersion"] for one in last] == [REPLY.model] * 2
    assert "cost" not in last[0]["usageMetadata"]
    assert last[1]["usageMetadata"] == {**late["usageMetadata"], "cost": RECEIPT.cost}
    assert told(events)["usage"].output == 5


def test_totals_that_came_earlier_carry_the_bill_if_the_last_chunk_has_none():
    last = {"candidates": [candidate(finishReason="STOP")]}
    objects, _ = relay(HI, last)
    assert objects[-1]["usageMetadata"] == {**HI["usageMetadata"], "cost": RECEIPT.cost}


def test_our_own_count_stands_where_the_charge_rests_on_it():
    objects, _ = relay(HI, END, receipt=Receipt(0.5, True, 30, 20))
    assert objects[-1]["usageMetadata"] == {
        "promptTokenCount": 30,
        "candidatesTokenCount": 20,
        "totalTokenCount": 50,
        "cost": 0.5,
        "estimated": True,
    }


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("CONTINUATION", "pause"),
        ("LANGUAGE", "other"),
        ("SOMETHING_NEW", "other"),
    ],
)
def test_reasons_are_told_in_our_words(raw, reason):
    _, events = relay(HI, chunk(candidate(finishReason=raw)))
    assert told(events)["finish"] == [(reason, raw, None)]


def test_a_stop_after_a_call_is_a_call():
    called = chunk(candidate({"functionCall": {"name": "f"}}))
    _, events = relay(called, END)
    assert told(events)["finish"] == [("tool_calls", "STOP", None)]


@pytest.mark.parametrize("raw", sorted(FAULTS))
def test_a_malformed_call_is_a_failure_that_may_be_tried_elsewhere(raw):
    native = stream_of("gemini")
    broken = chunk(candidate(finishReason=raw, finishMessage="Bad call at AIzaSyA1234567890"))
    found = native.feed(wire("gemini", [HI, broken]))
    assert found.events[-1] == Failed("server", "Bad call at [redacted]", {"code": raw})
    assert raw.encode() not in found.out
    assert native.feed(wire("gemini", [END])) == Fed(b"", [])


@pytest.mark.parametrize("unsaid", [None, "", "FINISH_REASON_UNSPECIFIED"])
def test_a_reason_that_says_nothing_is_none(unsaid):
    native = stream_of("gemini")
    native.feed(wire("gemini", [chunk(candidate({"text": "Hi"}, finishReason=unsaid))]))
    with pytest.raises(BadAnswer):
        native.end()


def test_a_blocked_prompt_is_an_answer_with_its_reason():
    blocked = {"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {"promptTokenCount": 9}}
    native = stream_of("gemini")
    out, events = fed(native, wire("gemini", [blocked]))
    assert out == b""
    assert told(events)["finish"] == [("content_filter", "OTHER", None)]
    (last,) = sent("gemini", native.close(RECEIPT))
    assert last == {**blocked, "usageMetadata": {"promptTokenCount": 9, "cost": RECEIPT.cost}}


def test_ratings_of_the_prompt_alone_end_nothing():
    rated = {**HI, "promptFeedback": {"safetyRatings": []}}
    objects, events = relay(rated, END)
    assert objects[0]["promptFeedback"] == {"safetyRatings": []}
    assert told(events)["finish"] == [("stop", "STOP", None)]


def test_several_candidates_end_one_by_one():
    first = chunk(candidate({"text": "a"}), candidate({"text": "b"}, index=1))
    done = chunk(candidate({"text": "a"}, finishReason="STOP"))
    more = chunk(candidate({"text": "b"}, index=1))
    last = chunk(candidate({"text": "b"}, index=1, finishReason="MAX_TOKENS"))
    native = stream_of("gemini")
    out, events = fed(native, wire("gemini", [first, done, more, last]))
    assert len(sent("gemini", out)) == 3
    assert told(events)["finish"] == [("stop", "STOP", None), ("length", "MAX_TOKENS", None)]
    assert told(events)["size"] == 5
    for upto in range(1, 4):
        with pytest.raises(BadAnswer):
            relay(*[first, done, more][:upto])


def test_candidates_one_after_another_keep_their_order():
    second = chunk(candidate({"text": "b"}, index=1))
    last = chunk(candidate({"text": "c"}, index=1, finishReason="STOP"))
    objects, events = relay(HI, END, second, last)
    assert [one["candidates"][0]["content"]["parts"][0]["text"] for one in objects] == ["Hi", "", "b", "c"]
    assert len(told(events)["finish"]) == 2
    with pytest.raises(BadAnswer):
        relay(HI, END, second)


def sizes(*parts):
    _, events = relay(chunk(*[candidate(part) for part in parts]), END)
    return [one.size for one in events if isinstance(one, Grew)]


def test_all_that_is_generated_counts():
    assert sizes({"text": "é", "thought": True}, {"text": ""}, {"thoughtSignature": "x"}) == [2]
    assert sizes({"functionCall": {"name": "look", "args": {"a": 1}}}) == [11]
    assert sizes({"functionCall": {"name": "look"}}) == [6]
    assert sizes({"functionCall": {}}) == []
    assert sizes({"inlineData": {"mimeType": "image/png", "data": "QUJD"}}) == [4]
    assert sizes({"executableCode": {"language": "PYTHON", "code": "1"}}) == [32]
    assert sizes({"codeExecutionResult": {"output": "1"}}) == []
    named = {"functionCall": {"name": "look", "willContinue": True}}
    piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "numberValue": 1}], "willContinue": True}}
    assert sizes(named, piece, {"functionCall": {}}) == [6, 36]


def test_only_blank_lines_keep_a_client_waiting():
    native = stream_of("gemini")
    assert native.keep_alive().strip() == b""
    assert native.feed(b": ping\r\n\r\n").out.strip() == b""
    assert stream_of("gemini", array=True).feed(b": ping\n\n").out.strip() == b""


def test_an_array_can_wait_anywhere():
    native = stream_of("gemini", array=True)
    out = native.keep_alive()
    for one in (HI, HI, END):
        out += native.feed(wire("gemini", [one])).out + native.keep_alive()
    native.end()
    assert len(json.loads(out + native.close(RECEIPT))) == 3


def test_members_the_caller_names_are_as_given():
    objects, _ = relay(HI, END, echo={"responseId": "ours"})
    assert [one["responseId"] for one in objects] == ["ours", "ours"]


def test_a_body_of_another_dialect_is_no_answer():
    for name in ("anthropic", "openai_responses"):
        native = stream_of("gemini")
        native.feed(golden_wire(name, "plain"))
        with pytest.raises(BadAnswer):
            native.end()


counts = st.integers(-2, 10**9 + 2) | st.integers(2**70, 2**71) | st.none() | st.just(1.5) | st.just("9")
details = st.lists(
    st.fixed_dictionaries({"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE"]), "tokenCount": counts}),
    max_size=3,
)
usages = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            (
                "promptTokenCount",
                "candidatesTokenCount",
                "thoughtsTokenCount",
                "toolUsePromptTokenCount",
                "cachedContentTokenCount",
            ),
            st.integers(0, 99) | counts,
        ),
        "promptTokensDetails": details | st.none(),
        "candidatesTokensDetails": details,
        "serviceTier": st.just("standard"),
        "cost": st.just(1),
    },
)


@given(usages)
@settings(deadline=None)
def test_totals_are_counted_as_the_reader_counts_them(usage):
    native = stream_of("gemini")
    data = json.dumps({"usageMetadata": usage, "candidates": [candidate(finishReason="STOP")]})
    _, events = run(native, f"data: {data}\r\n\r\n".encode())
    expected = replace(read_counts(usage), extras={})
    assert [replace(one.usage, extras={}) for one in events if isinstance(one, Counted)] == [expected]


@pytest.mark.parametrize("usage", [None, [], 5, "none"])
def test_totals_that_are_none_count_nothing(usage):
    objects, events = relay(HI, {**END, "usageMetadata": usage}, receipt=Receipt(1, False, 9, 1))
    assert told(events)["usage"].output == 1
    assert objects[-1]["usageMetadata"] == {**HI["usageMetadata"], "cost": 1}
