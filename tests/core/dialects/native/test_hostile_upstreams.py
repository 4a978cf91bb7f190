"""Whatever an upstream sends, a relay answers with bytes of its dialect or raises BadAnswer, nothing else."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.dialects.native.relays import NATIVES, RECEIPT, sent, stream_of, translated_stream, whole_of
from tests.support.dialects import golden

from tollway.core.errors import GatewayError
from tollway.core.exchange import Failed
from tollway.core.relay import BadAnswer

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
CASES = ["tools", "thinking", "citations", "refusal", "parallel_tools"]
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value, found):
    """Every place in a value that something else could stand at."""
    items = list(value.items()) if type(value) is dict else list(enumerate(value))
    for name, inner in items:
        found.append((value, name))
        if type(inner) in (dict, list):
            places(inner, found)
    return found


def spoil(data, value):
    for _ in range(data.draw(st.integers(1, 3))):
        where, name = data.draw(st.sampled_from(places(value, [])))
        if data.draw(st.booleans()) and type(where) is dict:
            where.pop(name, None)
        elif type(where) is dict or name < len(where):
            where[name] = data.draw(nonsense)


@pytest.mark.parametrize("make", [stream_of, translated_stream])
@pytest.mark.parametrize("dialect", NATIVES)
@given(data=st.data(), case=st.sampled_from(CASES))
@many
def test_a_spoiled_stream_ends_well_or_is_a_bad_answer(dialect, make, data, case):
    objects = [copy.deepcopy(one) for one in golden(dialect, case)["stream"]]
    spoil(data, objects)
    passed_on(dialect, make(dialect), objects)


SPOILED = {
    "anthropic": {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": [], "name": []},
    },
    "openai_responses": {"type": "response.output_item.added", "output_index": 0, "item": {"type": []}},
    "gemini": {"candidates": True, "promptFeedback": [], "usageMetadata": 5},
}
NOWHERE = {"type": "response.output_text.delta", "output_index": [], "content_index": {}, "delta": "x"}


@pytest.mark.parametrize("make", [stream_of, translated_stream])
@pytest.mark.parametrize("dialect", NATIVES)
def test_values_of_the_wrong_kind_are_not_tripped_over(dialect, make):
    stream = golden(dialect, "plain")["stream"]
    for spoiled in (SPOILED[dialect], NOWHERE):
        for at in (0, 1, 2):
            passed_on(dialect, make(dialect), [*stream[:at], spoiled, *stream[at:]])


def passed_on(dialect, relay, objects):
    error = GatewayError("stream_interrupted", "It broke.")
    out, events = b"", []
    try:
        for one in objects:
            fed = relay.feed(b"data: " + json.dumps(one).encode() + b"\n\n")
            out, events = out + fed.out, events + fed.events
        fed = relay.end()
        out, events = out + fed.out, events + fed.events
    except BadAnswer:
        out += relay.fail(error, "req_1")
    else:
        failed = any(isinstance(one, Failed) for one in events)
        out += relay.fail(error, "req_1") if failed else relay.close(RECEIPT)
        assert failed or out.count(b'"cost":') == 1
    sent(dialect, out)


@pytest.mark.parametrize("dialect", NATIVES)
@given(data=st.data(), case=st.sampled_from(CASES))
@many
def test_a_spoiled_answer_is_passed_on_or_a_bad_answer(dialect, data, case):
    body = copy.deepcopy(golden(dialect, case)["response"])
    spoil(data, body)
    relay = whole_of(dialect)
    relay.feed(json.dumps(body).encode())
    try:
        events = relay.end().events
    except BadAnswer:
        return
    if not any(isinstance(one, Failed) for one in events):
        usage = json.loads(relay.close(RECEIPT))["usageMetadata" if dialect == "gemini" else "usage"]
        assert usage["cost"] == RECEIPT.cost
