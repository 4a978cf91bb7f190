"""Every client dialect to every upstream dialect over sockets: text, streams, tools, thought, usage, errors."""

from __future__ import annotations

import json

import pytest
from tests.support import cells
from tests.support.cells import CLIENTS, SECRET, UPSTREAMS, ask, streamed_text, text_of, usage_of

CELLS = pytest.mark.parametrize(
    ("client", "behind"), [(client, behind) for client in CLIENTS for behind in UPSTREAMS]
)


@CELLS
def test_whole_answers_arrive_with_their_cost(matrix, client, behind):
    status, headers, answer = ask(matrix, client, behind, "chat")
    assert status == 200, answer
    assert "Hello!" in text_of(client, answer)
    cost = usage_of(client, answer)["cost"]
    assert cost > 0
    assert float(headers["x-tollway-cost"]) == cost


@CELLS
def test_streams_say_the_same_as_whole_answers_and_cost_the_same(matrix, client, behind):
    whole = ask(matrix, client, behind, "chat")[2]
    status, headers, events = ask(matrix, client, behind, "chat", stream=True)
    assert status == 200, events
    assert headers["content-type"].startswith("text/event-stream")
    assert streamed_text(client, events) == text_of(client, whole)
    assert usage_of(client, events)["cost"] == usage_of(client, whole)["cost"]


@CELLS
@pytest.mark.parametrize("stream", [False, True])
def test_the_cost_shown_is_what_the_receipt_proves(matrix, client, behind, stream):
    _, headers, answer = ask(matrix, client, behind, "tokens-50", stream=stream)
    receipt = matrix.get(f"/v1/generations/{headers['x-request-id']}")[2]
    assert receipt["net"] == usage_of(client, answer)["cost"]
    assert receipt["bill"]["proved"] is True
    assert receipt["usage"]["output_tokens"] == 50


@CELLS
def test_a_stream_that_is_cut_ends_with_the_dialects_own_error(matrix, client, behind):
    status, headers, events = ask(matrix, client, behind, "cut", stream=True)
    assert status == 200
    assert streamed_text(client, events)
    assert cells.failed_in_band(client, events), events[-3:]
    assert SECRET not in json.dumps(events)
    receipt = matrix.get(f"/v1/generations/{headers['x-request-id']}")[2]
    assert (receipt["outcome"], receipt["status"]) == ("partial", 502)
    assert 0 < receipt["net"] <= receipt["held"]


@CELLS
def test_an_error_inside_a_stream_never_looks_like_success(matrix, client, behind):
    status, _, events = ask(matrix, client, behind, "midstream-error", stream=True)
    # Content and error may come in one read: then nothing has gone out yet, and the refusal is whole.
    if status != 200:
        assert (status, cells.error_code(client, events)) == (502, "upstream_error")
    else:
        assert cells.failed_in_band(client, events), events[-3:]
    assert SECRET not in json.dumps(events)


@CELLS
@pytest.mark.parametrize(("name", "status"), [("429", 429), ("500", 502), ("first-error", 502)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_before_any_content_is_told_in_the_clients_envelope(
    matrix, client, behind, name, status, stream
):
    found, headers, body = ask(matrix, client, behind, name, stream=stream)
    assert found in (status, 529 if client == "anthropic" else status), body
    assert headers["content-type"].startswith("application/json")
    assert headers["x-should-retry"] == "true"
    assert cells.error_code(client, body).startswith("upstream_")


@CELLS
@pytest.mark.parametrize("stream", [False, True])
def test_missing_usage_is_estimated_and_marked(matrix, client, behind, stream):
    answer = ask(matrix, client, behind, "no-usage", stream=stream)[2]
    usage = usage_of(client, answer)
    assert usage["cost"] > 0
    assert usage["estimated"] is True
