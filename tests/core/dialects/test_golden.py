"""The same cases in all four dialects, side by side: they mean the same, and every cell of the matrix keeps the meaning."""

from __future__ import annotations

import itertools

import pytest
from tests.support import stream_rules
from tests.support.dialects import (
    NAMES,
    READING,
    REPLY,
    answer_meaning,
    cases,
    events_of,
    golden,
    meaning,
    objects_of,
    read_request,
    relayed,
    translated,
    wire,
    write_request,
)

from tollway.core import sse
from tollway.core.dialects.base import Reading, Reply, Target
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import Failed
from tollway.core.fold import Broken, fold
from tollway.core.json import decode
from tollway.core.relay import BadAnswer

REQUESTS = cases("request")
ANSWERS = cases("response")
STREAMS = cases("stream")
CELLS = list(itertools.product(NAMES, NAMES))


def test_every_case_is_there():
    assert {
        "plain",
        "multi_turn",
        "tools",
        "parallel_tools",
        "tool_result_images",
        "structured_output",
    } <= set(REQUESTS)
    assert {"thinking", "image_and_pdf"} <= set(REQUESTS)
    assert {"citations", "refusal", "length"} <= set(ANSWERS)
    assert {"error_first", "error_midstream"} <= set(STREAMS)


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", REQUESTS)
def test_request_goes_home_unchanged(dialect, case):
    body = golden(dialect, case)["request"]
    request = read_request(dialect, body)
    written = write_request(dialect, request)
    written.body.pop("stream_options", None)
    expected = {
        name: value for name, value in body.items() if dialect != "gemini" or name not in ("model", "stream")
    }
    assert written.body == expected
    assert written.losses == ()


@pytest.mark.parametrize("dialect", NAMES[1:])
@pytest.mark.parametrize("case", REQUESTS)
def test_request_means_the_same_in_every_dialect(dialect, case):
    first = meaning(read_request(NAMES[0], golden(NAMES[0], case)["request"]))
    assert meaning(read_request(dialect, golden(dialect, case)["request"])) == first


@pytest.mark.parametrize(("client", "upstream"), CELLS)
@pytest.mark.parametrize("case", REQUESTS)
def test_request_cell_keeps_the_meaning(client, upstream, case):
    request = read_request(client, golden(client, case)["request"])
    written = write_request(upstream, request)
    assert not [loss for loss in written.losses if loss.severity == "capability"]
    if (case == "thinking" and client != upstream) or case == "tool_result_images":
        return  # What happens to thoughts and to images in results is told by tests of their own.
    again = meaning(read_request(upstream, wire(upstream, request, written.body)))
    before = meaning(request)
    assert again == before


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", ANSWERS)
def test_answer_goes_home_unchanged(dialect, case):
    body = golden(dialect, case)["response"]
    spoken = DIALECTS[dialect]
    assert spoken.write_response(spoken.read_response(body, Reading()), Reply(), None) == body


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", ANSWERS)
def test_stream_folds_into_the_whole(dialect, case):
    found = golden(dialect, case)
    whole = DIALECTS[dialect].read_response(found["response"], READING)
    assert fold(events_of(dialect, found["stream"], READING)) == whole


@pytest.mark.parametrize("dialect", NAMES[1:])
@pytest.mark.parametrize("case", [case for case in ANSWERS if case != "refusal"])
def test_answer_means_the_same_in_every_dialect(dialect, case):
    def told(name):
        return answer_meaning(DIALECTS[name].read_response(golden(name, case)["response"], READING))

    assert told(dialect) == told(NAMES[0])


@pytest.mark.parametrize(("upstream", "client"), CELLS)
@pytest.mark.parametrize("case", ANSWERS)
def test_stream_cell_keeps_the_meaning(upstream, client, case):
    objects = relayed(upstream, client, golden(upstream, case)["stream"])
    stream_rules.check(client, objects)
    before = answer_meaning(fold(events_of(upstream, golden(upstream, case)["stream"], READING)))
    after = answer_meaning(fold(events_of(client, objects)))
    if case == "refusal":
        assert after["usage"] == before["usage"]
        return
    assert after == before


@pytest.mark.parametrize(("upstream", "client"), CELLS)
@pytest.mark.parametrize("case", ANSWERS)
def test_whole_cell_says_what_its_stream_says(upstream, client, case):
    response = DIALECTS[upstream].read_response(golden(upstream, case)["response"], READING)
    body = DIALECTS[client].write_response(response, REPLY, None)
    whole = DIALECTS[client].read_response(body, Reading())
    streamed = fold(events_of(client, relayed(upstream, client, golden(upstream, case)["stream"])))
    assert answer_meaning(whole) == answer_meaning(streamed)
    assert whole.model == streamed.model == "public-model"
    assert whole.id == streamed.id


@pytest.mark.parametrize(("upstream", "client"), CELLS)
@pytest.mark.parametrize("case", ["error_first", "error_midstream"])
def test_failure_ends_the_stream_in_the_clients_dialect(upstream, client, case):
    events = []
    reader = DIALECTS[upstream].reader(READING)
    for one in golden(upstream, case)["stream"]:
        events += reader.feed(one)
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == "overloaded"
    writer = DIALECTS[client].writer(REPLY)
    objects = [one for event in events for one in writer.send(event)]
    stream_rules.check(client, objects, complete=client != "openai_chat")
    told = DIALECTS[client].reader(Reading())
    heard = [event for one in objects for event in told.feed(one)]
    assert isinstance(heard[-1], Failed)
    assert "overloaded" in heard[-1].message


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", ANSWERS)
def test_stream_cut_after_any_event_is_no_success(dialect, case):
    objects = golden(dialect, case)["stream"]
    whole = fold(events_of(dialect, objects))
    for cut in range(len(objects)):
        try:
            found = fold(events_of(dialect, objects[:cut]))
        except (BadAnswer, Broken):
            continue
        # What remains after a reason was given is complete, but for its last totals.
        assert found.parts == whole.parts
        assert found.finish.reason == whole.finish.reason


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", ["plain", "parallel_tools", "thinking"])
def test_stream_cut_at_any_byte_gives_the_same_events(dialect, case):
    objects = golden(dialect, case)["stream"]
    data = b"".join(DIALECTS[dialect].frame(one) for one in objects)
    expected = events_of(dialect, objects)
    for cut in range(0, len(data), 7 if len(data) > 4_000 else 1):
        split = sse.Splitter()
        payloads = [*split.feed(data[:cut]), *split.feed(data[cut:]), *split.end()]
        found = [one.decode() if one == b"[DONE]" else decode(one) for one in payloads if one]
        assert events_of(dialect, found) == expected


@pytest.mark.parametrize("dialect", NAMES)
def test_error_body_is_read_for_what_it_is(dialect):
    error = golden(dialect, "error_first")["error"]
    fault = DIALECTS[dialect].read_error(error["status"], error["body"])
    assert (fault.kind, fault.message) == ("overloaded", "The server is overloaded.")


@pytest.mark.parametrize(("client", "upstream"), CELLS)
@pytest.mark.parametrize("case", REQUESTS)
def test_translating_a_request_changes_nothing_of_it(client, upstream, case):
    body = golden(client, case)["request"]
    before = str(body)
    translated(client, upstream, body)
    assert str(body) == before


def test_counting_says_nothing_of_the_answer():
    body = golden("anthropic", "tools")["request"]
    request = read_request("anthropic", body)
    for name in ("openai_responses", "anthropic", "gemini"):
        counting = DIALECTS[name].counting
        assert counting is not None
        written = counting.write_request(request, Target())
        text = str(written.body)
        assert "weather" in text
        assert "max_tokens" not in text and "maxOutputTokens" not in text and "stream" not in text
        assert counting.read_count(counting.write_count(17)) == 17


def test_objects_of_every_writer_come_from_one_answer():
    events = events_of("anthropic", golden("anthropic", "tools")["stream"])
    for name in NAMES:
        assert objects_of(name, events) == objects_of(name, events)
