"""Responses natively: the response is the gateway's own, its numbers run on, and its end waits for the bill."""

from __future__ import annotations

import copy
import json

import pytest
from tests.core.dialects.native.relays import (
    RECEIPT,
    fed,
    golden_wire,
    run,
    sent,
    stream_of,
    told,
    whole_of,
    wire,
)
from tests.support import stream_rules
from tests.support.dialects import NAMES, REPLY, cases, golden

from tollway.core.errors import GatewayError
from tollway.core.exchange import Failed, Finished, Grew, Started
from tollway.core.relay import BadAnswer

ECHO = {"previous_response_id": "resp_before", "store": False, "metadata": {"mine": "1"}}
OWN_ID = f"resp_{REPLY.token}"
ERROR = GatewayError("stream_interrupted", "It broke off.", scope="upstream")


def event(kind, number, **members):
    return {"type": kind, "sequence_number": number, **members}


def response(status="in_progress", **members):
    return {
        "id": "resp_theirs",
        "object": "response",
        "model": "m",
        "status": status,
        "output": [],
        **members,
    }


USAGE = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
CREATED = event("response.created", 0, response=response())
COMPLETED = event("response.completed", 9, response=response("completed", usage=USAGE))


def relay(objects, **options):
    native = stream_of("openai_responses", **options)
    out, events = run(native, wire("openai_responses", objects))
    return native, sent("openai_responses", out), events


@pytest.mark.parametrize("case", cases("response"))
def test_every_response_object_is_the_gateways(case):
    native, objects, _ = relay(golden("openai_responses", case)["stream"], echo=ECHO)
    shown = [one["response"] for one in objects if "response" in one]
    assert len(shown) == 3
    for one in shown:
        assert one["id"] == OWN_ID
        assert one["model"] == REPLY.model
        assert {name: one[name] for name in ECHO} == ECHO
    assert native.answer == shown[-1]
    assert native.answer["usage"]["cost"] == RECEIPT.cost


def test_the_answer_is_unknown_until_it_is_paid():
    native = stream_of("openai_responses")
    fed(native, wire("openai_responses", golden("openai_responses", "plain")["stream"]))
    assert native.answer is None


def test_the_whole_answer_is_the_gateways_too():
    native = whole_of("openai_responses", echo=ECHO)
    body = golden("openai_responses", "tools")["response"]
    native.feed(json.dumps(body).encode())
    native.end()
    assert native.answer is None
    found = json.loads(native.close(RECEIPT))
    assert found == {
        **body,
        **ECHO,
        "id": OWN_ID,
        "model": REPLY.model,
        "usage": {**body["usage"], "cost": RECEIPT.cost},
    }
    assert native.answer == found


@pytest.mark.parametrize("upto", range(12))
def test_an_error_carries_on_the_numbers_and_keeps_the_items(upto):
    stream = golden("openai_responses", "parallel_tools")["stream"][:upto]
    native = stream_of("openai_responses", echo=ECHO)
    out = native.feed(wire("openai_responses", stream)).out
    objects = sent("openai_responses", out + native.fail(ERROR, "req_1"))
    stream_rules.check("openai_responses", objects)
    error, failed = objects[-2:]
    assert error["error"].keys() >= {"message", "type", "code", "param"}
    assert failed["response"]["id"] == OWN_ID
    assert failed["response"]["status"] == "failed"
    assert {name: failed["response"][name] for name in ECHO} == ECHO
    assert failed["response"]["output"] == [
        one["item"] for one in stream if one["type"] == "response.output_item.done"
    ]


def test_a_bill_that_cannot_be_settled_ends_in_an_error_with_the_next_number():
    native = stream_of("openai_responses")
    out, _ = fed(native, wire("openai_responses", golden("openai_responses", "tools")["stream"]))
    stream_rules.check("openai_responses", sent("openai_responses", out + native.fail(ERROR, "req_1")))


def test_what_breaks_within_one_chunk_counts_as_never_said():
    stream = golden("openai_responses", "plain")["stream"]
    native = stream_of("openai_responses")
    out = native.feed(wire("openai_responses", stream[:2])).out
    with pytest.raises(BadAnswer):
        native.feed(wire("openai_responses", stream[2:5]) + b"data: <html>\n\n")
    stream_rules.check("openai_responses", sent("openai_responses", out + native.fail(ERROR, "req_1")))


def test_numbers_an_upstream_leaves_out_are_counted():
    bare = [{"type": "response.created", "response": response()}, {"type": "response.x"}]
    native = stream_of("openai_responses")
    native.feed(wire("openai_responses", bare))
    failed = sent("openai_responses", native.fail(ERROR, "req_1"))
    assert [one["sequence_number"] for one in failed] == [2, 3]


@pytest.mark.parametrize("where", [0, 3, -1])
def test_done_is_neither_needed_nor_passed_on(where):
    stream = [wire("openai_responses", [one]) for one in golden("openai_responses", "plain")["stream"]]
    plain = run(stream_of("openai_responses"), b"".join(stream))
    stream.insert(where if where >= 0 else len(stream), b"data: [DONE]\n\n")
    assert run(stream_of("openai_responses"), b"".join(stream)) == plain


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_failed_response_is_a_failure_with_its_usage(status):
    error = {"code": "server_is_overloaded", "message": "Busy."}
    last = event(f"response.{status}", 1, response=response(status, error=error, usage=USAGE))
    native = stream_of("openai_responses")
    out, events = fed(native, wire("openai_responses", [CREATED, last]))
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].message) == ("overloaded", "Busy.")
    assert told(events)["usage"].output == 4
    assert status.encode() not in out


def test_an_error_event_comes_first_and_the_rest_is_not_looked_at():
    flat = event("error", 1, code="rate_limit_exceeded", message="Slow down.", param=None)
    native = stream_of("openai_responses")
    found = native.feed(wire("openai_responses", [CREATED, flat, COMPLETED]))
    assert found.events[1:] == [
        Failed(
            "rate_limit",
            "Slow down.",
            {"status": 0, "code": "rate_limit_exceeded", "message": "Slow down."},
        )
    ]


@pytest.mark.parametrize(
    ("why", "reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "other")],
)
def test_an_incomplete_response_says_why(why, reason):
    last = event(
        "response.incomplete", 1, response=response("incomplete", incomplete_details={"reason": why})
    )
    _, objects, events = relay([CREATED, last])
    assert events[-1] == Finished(reason, why)
    assert objects[-1]["response"]["usage"]["cost"] == RECEIPT.cost


def item_done(index, item):
    return event("response.output_item.done", 1, output_index=index, item=item)


def item_added(index, item):
    return event("response.output_item.added", 1, output_index=index, item=item)


def grown(*objects):
    _, _, events = relay([CREATED, *objects, COMPLETED])
    return [one.size for one in events if isinstance(one, Grew)], told(events)["finish"][0][0]


MESSAGE = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hé"}]}
CALL = {"type": "function_call", "id": "f", "call_id": "c", "name": "look", "arguments": '{"a":1}'}


def test_what_is_not_told_in_pieces_is_counted_when_it_is_told():
    delta = event("response.output_text.delta", 1, output_index=0, content_index=0, delta="Hé")
    assert grown(item_done(0, MESSAGE)) == ([3], "stop")
    assert grown(delta, item_done(0, MESSAGE), item_done(1, MESSAGE)) == ([3, 3], "stop")
    assert grown(item_done(0, CALL)) == ([11], "tool_calls")
    assert grown(item_added(0, {**CALL, "arguments": ""}), item_done(0, CALL)) == ([4, 7], "tool_calls")
    pieces = event("response.function_call_arguments.delta", 1, output_index=0, delta='{"a":1}')
    assert grown(item_added(0, CALL), pieces, item_done(0, CALL)) == ([4, 7], "tool_calls")
    search = {"type": "web_search_call", "id": "w", "status": "completed"}
    assert grown(item_added(0, search), item_done(0, search)) == ([], "stop")
    image = {"type": "image_generation_call", "id": "i", "result": "QUJD" * 9}
    assert grown(item_done(0, image)) == ([36], "stop")
    found = {"type": "tool_search_call", "id": "t", "call_id": "c", "execution": "client", "arguments": {}}
    assert grown(item_done(0, found))[1] == "tool_calls"


def test_thoughts_refusals_and_every_other_delta_count():
    kinds = (
        "refusal",
        "reasoning_text",
        "reasoning",
        "reasoning_summary_text",
        "custom_tool_call_input",
        "x",
    )
    deltas = [event(f"response.{kind}.delta", 1, output_index=0, delta="abc") for kind in kinds]
    assert grown(*deltas)[0] == [3] * len(kinds)
    silent = [event("response.output_text.delta", 1, output_index=0, delta=one) for one in ("", None, {}, 5)]
    assert grown(*silent)[0] == []


def test_an_answer_that_is_only_in_the_last_event_counts():
    last = event("response.completed", 1, response=response("completed", output=[MESSAGE, CALL], usage=USAGE))
    _, objects, events = relay([CREATED, last])
    assert [one.size for one in events if isinstance(one, Grew)] == [3, 11]
    assert events[-1] == Finished("tool_calls", "completed")
    assert objects[-1]["response"]["output"] == [MESSAGE, CALL]


def test_ids_that_change_on_the_way_do_not_matter_but_a_second_answer_does():
    turned = [
        copy.deepcopy(CREATED),
        event("response.in_progress", 1, response=response(id="resp_2")),
        COMPLETED,
    ]
    _, objects, events = relay(turned)
    assert {one["response"]["id"] for one in objects} == {OWN_ID}
    assert [one for one in events if isinstance(one, Started)] == [Started("resp_theirs", "m")]
    with pytest.raises(BadAnswer):
        relay([CREATED, event("response.created", 1, response=response(id="resp_2"))])


@pytest.mark.parametrize(
    "first",
    [
        event("response.output_text.delta", 0, output_index=0, delta="x"),
        item_added(0, CALL),
        event("response.created", 0, response=None),
        event("response.completed", 0, response=[]),
        event("response.output_text.delta", 0, output_index=[], delta="x"),
    ],
)
def test_nothing_comes_before_the_response(first):
    with pytest.raises(BadAnswer):
        relay([first])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "openai_responses"])
def test_a_body_of_another_dialect_is_no_answer(name):
    with pytest.raises(BadAnswer):
        run(stream_of("openai_responses"), golden_wire(name, "plain"))
