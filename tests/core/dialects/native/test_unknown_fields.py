"""What a native relay does not know goes home as it came: members, events, spellings, halves of characters."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.dialects.native.relays import (
    NATIVES,
    RECEIPT,
    run,
    sent,
    stream_of,
    told,
    usage_of,
    whole_of,
    wire,
)
from tests.core.dialects.native.test_golden_streams import CASES, expected
from tests.support.dialects import REPLY, cases, golden

from tollway.core.relay import BadAnswer
from tollway.core.sse import EVENT_MAX

few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | words | st.integers(-(10**25), 10**25)
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
# Names that are someone's own; "modelVersion" and the like inside are among what must not be touched.
extras = st.dictionaries(words.map("x_{}".format), values, max_size=2)
traps = st.fixed_dictionaries(
    {"x_trap": st.just({"model": "m-1", "modelVersion": "m-1", "id": "resp_A1", "usage": {"cost": 9}})}
)


def objects_inside(value):
    if type(value) is dict:
        # Arguments and schemas are data of the client's own.
        yield value
        for name, inner in value.items():
            if name not in ("args", "metadata", "logprobs"):
                yield from objects_inside(inner)
    elif type(value) is list:
        for inner in value:
            yield from objects_inside(inner)


@pytest.mark.parametrize(("dialect", "case"), CASES)
@given(data=st.data())
@few
def test_unknown_members_anywhere_survive_in_a_stream(dialect, case, data):
    objects = copy.deepcopy(golden(dialect, case)["stream"])
    for one in list(objects_inside(objects)):
        one.update(data.draw(extras | traps, label="extras"))
    spaced = data.draw(st.sampled_from([None, (", ", ": ")]))
    texts = [json.dumps(one, ensure_ascii=data.draw(st.booleans()), separators=spaced) for one in objects]
    stream = "".join(f"event: x\ndata: {text}\n\n" for text in texts).encode()
    out, events = run(stream_of(dialect), stream)
    assert sent(dialect, out) == expected(dialect, objects)
    _, plain = run(stream_of(dialect), wire(dialect, golden(dialect, case)["stream"]))
    assert told(events)["finish"] == told(plain)["finish"]
    assert told(events)["size"] == told(plain)["size"]
    for member in ("input", "output", "cache_read", "reasoning", "anomalous"):
        assert getattr(told(events)["usage"], member) == getattr(told(plain)["usage"], member)


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize("case", cases("response"))
@given(data=st.data())
@few
def test_unknown_members_anywhere_survive_in_a_whole_answer(dialect, case, data):
    body = copy.deepcopy(golden(dialect, case)["response"])
    for one in list(objects_inside(body)):
        one.update(data.draw(extras | traps, label="extras"))
    relay = whole_of(dialect)
    relay.feed(json.dumps(body).encode())
    relay.end()
    body["modelVersion" if dialect == "gemini" else "model"] = REPLY.model
    if dialect == "openai_responses":
        body["id"] = f"resp_{REPLY.token}"
    body["usageMetadata" if dialect == "gemini" else "usage"]["cost"] = RECEIPT.cost
    assert json.loads(relay.close(RECEIPT)) == body


@pytest.mark.parametrize("dialect", ["anthropic", "openai_responses"])
@pytest.mark.parametrize("delta", [None, 5, "text", True, [1], {"nobody": {"knows": 1}}])
def test_events_nobody_knows_pass_with_their_names(dialect, delta):
    objects = copy.deepcopy(golden(dialect, "plain")["stream"])
    news = {"type": "x.future_event", "sequence_number": 99, "delta": delta, "content_block": delta}
    objects.insert(3, news)
    out, events = run(stream_of(dialect), wire(dialect, objects))
    assert sent(dialect, out)[3] == news
    _, plain = run(stream_of(dialect), wire(dialect, golden(dialect, "plain")["stream"]))
    assert told(events) == told(plain)


@pytest.mark.parametrize("dialect", NATIVES)
def test_data_on_several_lines_is_still_one_event(dialect):
    objects = golden(dialect, "tools")["stream"]
    lines = ["".join(f"data: {line}\n" for line in json.dumps(one, indent=2).split("\n")) for one in objects]
    out, events = run(stream_of(dialect), "".join(f"{one}\n" for one in lines).encode())
    assert sent(dialect, out) == expected(dialect, objects)
    assert told(events) == told(run(stream_of(dialect), wire(dialect, objects))[1])


HALVES = {
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "@"}},
    "openai_responses": {
        "type": "response.output_text.delta",
        "sequence_number": 7,
        "output_index": 0,
        "content_index": 0,
        "item_id": "msg_A1",
        "delta": "@",
    },
    "gemini": {"candidates": [{"content": {"role": "model", "parts": [{"text": "@"}]}, "index": 0}]},
}


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize(
    ("half", "grown"),
    [
        (r"\ud83d", 3),
        (r"\uDE00", 3),
        (r"\\ud83d", 6),
        (r"\ud83d\ude00", 4),
        (r"\\ud83d\ud83d\ud83d\ude00", 13),
    ],
)
def test_half_a_character_passes_and_counts(dialect, half, grown):
    objects = golden(dialect, "plain")["stream"]
    at = 4 if dialect != "gemini" else 1
    text = json.dumps(HALVES[dialect], separators=(",", ":")).replace("@", half)
    stream = wire(dialect, objects[:at]) + f"data: {text}\n\n".encode() + wire(dialect, objects[at:])
    out, events = run(stream_of(dialect), stream)
    assert f"data: {text}".encode() in out
    _, plain = run(stream_of(dialect), wire(dialect, objects))
    assert told(events)["size"] == told(plain)["size"] + grown


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[1]",
        "5",
        "null",
        '"text"',
        "{",
        '{"type": 5, "candidates": 5}',
        '{"type": null, "candidates": {}}',
        '{"x":' + "[" * 3_000 + "]" * 3_000 + "}",
        '{"type":"content_block_delta","candidates":[1]}{}',
        "[DONE] or so",
    ],
)
def test_what_is_not_in_the_dialect_is_a_bad_answer(dialect, payload):
    with pytest.raises(BadAnswer):
        stream_of(dialect).feed(f"data: {payload}\n\n".encode())


@pytest.mark.parametrize("dialect", ["anthropic", "openai_responses"])
@pytest.mark.parametrize("kind", ["a\nevent: message_stop", "a\rb", "é", "x" * 200, "a b"])
def test_a_type_that_is_no_name_cannot_forge_lines(dialect, kind):
    with pytest.raises(BadAnswer):
        stream_of(dialect).feed(b"data: " + json.dumps({"type": kind}).encode() + b"\n\n")


@pytest.mark.parametrize("dialect", NATIVES)
def test_an_endless_event_is_a_bad_answer(dialect):
    relay = stream_of(dialect)
    relay.feed(b"data: " + b"x" * (EVENT_MAX - 6))
    with pytest.raises(BadAnswer):
        relay.feed(b"x")


@pytest.mark.parametrize("dialect", NATIVES)
def test_another_gateways_price_is_not_shown(dialect):
    objects = copy.deepcopy(golden(dialect, "thinking")["stream"])
    theirs = {"cost": 77.7, "cost_details": {"upstream": 77.7}, "costDetails": {"x": 77.7}}
    for one in objects:
        for place in (one, one.get("message"), one.get("response")):
            for name in ("usage", "usageMetadata"):
                if type(place) is dict and type(place.get(name)) is dict:
                    place[name].update(theirs)
    out, _ = run(stream_of(dialect), wire(dialect, objects))
    usage = usage_of(dialect, sent(dialect, out))
    assert usage["cost"] == RECEIPT.cost
    member = "costDetails" if dialect == "gemini" else "cost_details"
    assert f'"{member}"'.encode() not in out
    assert out.count(b'"cost":') == 1
