"""Native relays over the golden streams: what passes, what is held back, what is read, wherever the bytes are cut."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
from tests.core.dialects.native.relays import (
    ESTIMATED,
    NAME,
    NATIVES,
    RECEIPT,
    fed,
    golden_wire,
    run,
    sent,
    stream_of,
    told,
    translated_stream,
    usage_of,
    wire,
)
from tests.support import stream_rules
from tests.support.dialects import READING, REPLY, cases, golden

from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import Failed, Started
from tollway.core.fold import fold
from tollway.core.relay import BadAnswer, Fed, Receipt

ANSWERS = cases("response")
CASES = list(itertools.product(NATIVES, ANSWERS))
ENDS = {
    "anthropic": (b"message_delta", b"message_stop", b'"cost"'),
    "openai_responses": (b'"response.completed"', b'"response.incomplete"', b'"cost"'),
    "gemini": (b"finishReason", b"blockReason", b'"cost"'),
}


def expected(dialect, objects):
    """A stream's objects with the only changes a native relay may make."""
    objects = copy.deepcopy(objects)
    for one in objects:
        if dialect == "gemini":
            one["modelVersion"] = NAME
        for name in ("message", "response"):
            if type(one.get(name)) is dict:
                one[name]["model"] = NAME
        if type(one.get("response")) is dict:
            one["response"]["id"] = f"resp_{REPLY.token}"
    usage_of(dialect, objects)["cost"] = RECEIPT.cost
    return objects


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_only_the_model_the_id_and_the_price_change(dialect, case):
    out, _ = run(stream_of(dialect), golden_wire(dialect, case))
    objects = sent(dialect, out)
    assert objects == expected(dialect, golden(dialect, case)["stream"])
    stream_rules.check(dialect, objects)


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_bytes_nobody_needs_to_change_go_on_as_they_came(dialect, case):
    data = golden_wire(dialect, case)
    theirs = data.split(b"\r\n\r\n" if dialect == "gemini" else b"\n\n")
    out, _ = run(stream_of(dialect), data)
    unchanged = [block for block in theirs if block and b"m-1" not in block and b"message_delta" not in block]
    assert all(block in out for block in unchanged)
    if dialect != "gemini":
        assert unchanged


@pytest.mark.parametrize(("dialect", "case"), CASES)
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_any_cut_and_line_end_gives_the_same_bytes_and_events(dialect, case, end):
    data = golden_wire(dialect, case).replace(b"\r\n", b"\n").replace(b"\n", end[: len(end) // 2].encode())
    plain = run(stream_of(dialect), golden_wire(dialect, case))
    assert run(stream_of(dialect), data, tuple(range(1, len(data)))) == plain
    for cut in range(1, len(data), 1 if end == "\n\n" and len(data) < 2_500 else 23):
        assert run(stream_of(dialect), data, (cut,)) == plain


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_the_events_say_what_the_translating_reader_says(dialect, case):
    data = golden_wire(dialect, case)
    _, events = run(stream_of(dialect), data)
    _, others = fed(translated_stream(dialect), data)
    assert told(events) == told(others)
    first = golden(dialect, case)["stream"][0]
    top = first.get("message") or first.get("response") or {"id": first.get("responseId"), "model": "m-1"}
    assert events[0] == Started(top["id"], top["model"])


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_usage_is_exactly_that_of_the_whole_answer(dialect, case):
    _, events = run(stream_of(dialect), golden_wire(dialect, case))
    body = golden(dialect, case)["response"]
    usage = told(events)["usage"]
    whole = DIALECTS[dialect].read_response(body, READING).usage
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (
        whole.input,
        whole.output,
        whole.cache_read,
        whole.reasoning,
    )


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_nothing_that_ends_well_goes_out_before_the_bill(dialect, case):
    relay = stream_of(dialect)
    out, _ = fed(relay, golden_wire(dialect, case))
    assert not [word for word in ENDS[dialect] if word in out]
    last = relay.close(RECEIPT)
    assert ENDS[dialect][-1] in last


@pytest.mark.parametrize(("dialect", "case"), CASES)
@pytest.mark.parametrize("receipt", [RECEIPT, Receipt(0, False, 3, 2), ESTIMATED])
def test_the_bill_looks_as_it_does_after_a_translation(dialect, case, receipt):
    data = golden_wire(dialect, case)
    if receipt.estimated:
        data = wire(dialect, unmetered(golden(dialect, case)["stream"]))
    ours, _ = run(stream_of(dialect), data, receipt=receipt)
    other, _ = run(translated_stream(dialect), data, receipt=receipt)
    usage = usage_of(dialect, sent(dialect, ours))
    assert usage == usage_of(dialect, sent(dialect, other))
    assert usage["cost"] == receipt.cost
    assert usage.get("estimated", False) is receipt.estimated


def unmetered(objects):
    """A stream of an upstream that does not count."""
    objects = copy.deepcopy(objects)
    for one in objects:
        for place in (one, one.get("message"), one.get("response")):
            for name in ("usage", "usageMetadata"):
                if type(place) is dict:
                    place.pop(name, None)
    return objects


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_a_stream_cut_at_any_byte_ends_with_the_dialects_error_or_is_whole(dialect, case):
    data = golden_wire(dialect, case)
    _, events = run(stream_of(dialect), data)
    whole = told(events)
    error = GatewayError("stream_interrupted", "It broke off.", scope="upstream")
    complete = 0
    for cut in range(0, len(data), 1 if len(data) < 2_500 else 7):
        relay, out, heard = stream_of(dialect), b"", []
        try:
            found = relay.feed(data[:cut])
            out, heard = found.out, found.events
            heard = heard + relay.end().events
        except BadAnswer:
            assert not [word for word in ENDS[dialect] if word in out]
            objects = sent(dialect, out + relay.fail(error, "req_1"))
            stream_rules.check(dialect, objects, complete=dialect == "openai_responses")
            reader = DIALECTS[dialect].reader(READING)
            last = [event for one in objects for event in reader.feed(one)][-1]
            assert isinstance(last, Failed)
            assert "It broke off." in last.message
        else:
            complete += 1
            assert (told(heard)["size"], told(heard)["finish"]) == (whole["size"], whole["finish"])
            stream_rules.check(dialect, sent(dialect, out + relay.close(RECEIPT)))
    # Only what follows the reason for the end may be missing from a complete answer.
    assert complete <= 40


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize("case", ["error_first", "error_midstream"])
def test_an_error_inside_the_stream_is_an_event_and_is_not_passed_on(dialect, case):
    data = golden_wire(dialect, case)
    relay = stream_of(dialect)
    out, events = fed(relay, data)
    reader = DIALECTS[dialect].reader(READING)
    others = [event for one in golden(dialect, case)["stream"] for event in reader.feed(one)]
    assert events[-1] == others[-1]
    assert isinstance(events[-1], Failed)
    assert b"The server is overloaded." not in out
    assert relay.feed(wire(dialect, golden(dialect, "plain")["stream"])) == Fed(b"", [])
    ended = sent(dialect, out + relay.fail(GatewayError("upstream_error", "Ours."), "req_1"))
    stream_rules.check(dialect, ended, complete=dialect == "openai_responses")


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_the_clients_stream_folds_into_the_upstreams_answer(dialect, case):
    out, _ = run(stream_of(dialect), golden_wire(dialect, case))

    def folded(objects):
        reader = DIALECTS[dialect].reader(READING)
        events = [event for one in objects for event in reader.feed(one)] + reader.close()
        return fold(events)

    ours, theirs = folded(sent(dialect, out)), folded(golden(dialect, case)["stream"])
    assert ours.model == NAME
    assert (ours.parts, ours.finish, ours.usage) == (theirs.parts, theirs.finish, theirs.usage)


@pytest.mark.parametrize("case", ANSWERS)
def test_an_array_is_one_json_value_with_the_same_objects(case):
    data = golden_wire("gemini", case)
    relay = stream_of("gemini", array=True)
    assert relay.content_type == b"application/json"
    out, events = fed(relay, data)
    whole = out + relay.keep_alive() + relay.close(RECEIPT)
    plain, others = run(stream_of("gemini"), data)
    assert json.loads(whole) == sent("gemini", plain)
    assert events == others
    for cut in range(1, len(data), 29):
        assert json.loads(run(stream_of("gemini", array=True), data, (cut,))[0]) == json.loads(whole)


@pytest.mark.parametrize("upto", range(3))
def test_a_failed_array_is_one_json_value_too(upto):
    relay = stream_of("gemini", array=True)
    out = relay.feed(wire("gemini", golden("gemini", "plain")["stream"][:upto])).out
    found = json.loads(out + relay.keep_alive() + relay.fail(GatewayError("upstream_error", "No."), "req_1"))
    assert len(found) == upto + 1
    assert next(iter(found[-1])) == "error"
