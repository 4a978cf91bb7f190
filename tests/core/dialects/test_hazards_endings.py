"""Hazards of streams, each by the number it has in our list: how they end, break and repeat themselves."""

from __future__ import annotations

import json

import pytest
from tests.support import stream_rules
from tests.support.chat_chunks import END, call_delta, calls_of, chat_chunk
from tests.support.dialects import (
    NAMES,
    REPLY,
    events_of,
    golden,
    objects_of,
    read_request,
    relayed,
    write_request,
)

from tollway.core.dialects.base import DONE, Reading, Sent, Undo
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Failed,
    Finished,
    PartEnded,
    PartGrew,
    PartStarted,
    Started,
    StillAlive,
    Text,
    ToolCall,
)
from tollway.core.fold import fold
from tollway.core.json import encode
from tollway.core.relay import BadAnswer


@pytest.mark.parametrize(
    ("dialect", "objects"),
    [
        ("openai_chat", [chat_chunk({"content": "hi"}), chat_chunk({}, "stop")]),
        ("openai_chat", [chat_chunk({"content": "hi"}), DONE]),
        ("openai_responses", golden("openai_responses", "plain")["stream"]),
        ("openai_responses", [*golden("openai_responses", "plain")["stream"], DONE]),
        ("anthropic", golden("anthropic", "plain")["stream"][:-1]),
        ("gemini", golden("gemini", "plain")["stream"]),
    ],
)
def test_h09_terminal_markers_that_are_enough(dialect, objects):
    assert fold(events_of(dialect, objects)).finish.reason == "stop"


@pytest.mark.parametrize("dialect", NAMES)
def test_h09_the_end_of_bytes_alone_is_a_failure(dialect):
    objects = golden(dialect, "error_midstream")["stream"][:-1]
    with pytest.raises(BadAnswer):
        events_of(dialect, objects)


@pytest.mark.parametrize("dialect", NAMES)
def test_h10_a_broken_stream_ends_with_the_dialects_error(dialect):
    writer = DIALECTS[dialect].writer(REPLY)
    objects = []
    for event in [Started("1", "m"), PartStarted(0, Text("")), PartGrew(0, "half")]:
        objects += writer.send(event)
    objects += writer.fail(GatewayError("stream_interrupted", "the upstream went away"), "req_1")
    stream_rules.check(dialect, objects, complete=dialect != "openai_chat")
    told = {
        "openai_chat": lambda: objects[-1]["error"]["type"],
        "openai_responses": lambda: (objects[-2]["error"]["type"], objects[-1]["response"]["error"]["code"]),
        "anthropic": lambda: objects[-1]["error"]["type"],
        "gemini": lambda: (objects[-1]["error"]["code"], objects[-1]["error"]["status"]),
    }
    # Words that make clients try again, because the failure is not theirs.
    assert (
        told[dialect]()
        == {
            "openai_chat": "upstream_error",
            "openai_responses": ("upstream_error", "server_error"),
            "anthropic": "api_error",
            "gemini": (502, "INTERNAL"),
        }[dialect]
    )


def test_h10_an_error_right_after_200_is_seen_before_any_content():
    chunk = {"error": {"message": "no", "code": 502, "metadata": {}}, "id": "gen-1", "choices": []}
    (failed,) = DIALECTS["openai_chat"].reader(Reading()).feed(chunk)
    assert isinstance(failed, Failed)
    quota = {
        "type": "error",
        "error": {
            "type": "insufficient_quota",
            "code": "insufficient_quota",
            "message": "org-abc123456 has no money",
        },
    }
    (failed,) = DIALECTS["openai_responses"].reader(Reading()).feed(quota)
    assert isinstance(failed, Failed)
    assert failed.kind == "credits"
    assert "org-" not in failed.message


@pytest.mark.parametrize(
    ("dialect", "start", "end"),
    [
        ("openai_chat", b"data: {", b"}\n\n"),
        ("openai_responses", b"event: response.created\ndata: {", b"}\n\n"),
        ("anthropic", b"event: message_start\ndata: {", b"}\n\n"),
        ("gemini", b"data: {", b"}\r\n\r\n"),
    ],
)
def test_h12_frames_are_what_each_dialects_clients_accept(dialect, start, end):
    events = events_of("anthropic", golden("anthropic", "plain")["stream"])
    frames = [DIALECTS[dialect].frame(one) for one in objects_of(dialect, events)]
    assert frames[0].startswith(start) and frames[0].endswith(end)
    if dialect == "openai_chat":
        assert frames[-1] == b"data: [DONE]\n\n"
    if dialect == "gemini":
        assert DIALECTS[dialect].keep_alive.strip() == b""
        assert all(frame.startswith(b"data: ") and b"\n" not in frame.strip() for frame in frames)
    else:
        assert DIALECTS[dialect].keep_alive.startswith(b":")


def test_h12_an_upstreams_ping_keeps_the_client_waiting():
    (alive,) = DIALECTS["anthropic"].reader(Reading()).feed({"type": "ping"})
    assert alive == StillAlive()
    writer = DIALECTS["anthropic"].writer(REPLY)
    writer.send(Started("1", "m"))
    assert writer.send(StillAlive()) == [{"type": "ping"}]


def test_h13_a_repeated_start_is_passed_over_and_a_spliced_one_is_not():
    stream = golden("anthropic", "plain")["stream"]
    twice = [stream[0], *stream]
    assert fold(events_of("anthropic", twice)) == fold(events_of("anthropic", stream))
    other = {"type": "message_start", "message": {**stream[0]["message"], "id": "msg_other"}}
    with pytest.raises(BadAnswer):
        events_of("anthropic", [*stream[:3], other])


def test_h13_item_ids_that_change_with_every_event_do_not_matter():
    stream = json.loads(json.dumps(golden("openai_responses", "tools")["stream"]))
    for at, one in enumerate(stream):
        if "item_id" in one:
            one["item_id"] = f"rotated_{at}"
        if "item" in one:
            one["item"]["id"] = f"rotated_{at}"
    assert calls_of(fold(events_of("openai_responses", stream))) == [("call_1", "weather", '{"city":"Oslo"}')]


@pytest.mark.parametrize("client", NAMES)
def test_h14_ids_agree_throughout_an_answer(client):
    objects = relayed("gemini", client, golden("gemini", "tools")["stream"])
    stream_rules.check(client, objects)  # The rules compare the ids of items and chunks.
    text = b"".join(DIALECTS[client].frame(one) for one in objects)
    assert b"T0ken" in text
    whole = DIALECTS[client].read_response(
        DIALECTS[client].write_response(
            fold(events_of("gemini", golden("gemini", "tools")["stream"])), REPLY, None
        ),
        Reading(),
    )
    assert whole.id == fold(events_of(client, objects)).id


EMPTY = {
    "openai_chat": [
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk({}),
        chat_chunk({"content": ""}),
        call_delta(0, "{}", "c", "go"),
        *END,
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": ""}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"id": "c", "name": "go", "args": {}}}]}}]},
        {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]},
    ],
}


@pytest.mark.parametrize("upstream", list(EMPTY))
@pytest.mark.parametrize("client", NAMES)
def test_h15_empty_deltas_open_nothing(client, upstream):
    found = fold(events_of(client, relayed(upstream, client, EMPTY[upstream])))
    assert [type(part) for part in found.parts] == [ToolCall]


@pytest.mark.parametrize(
    ("client", "body"),
    [
        ("openai_chat", {"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}),
        (
            "gemini",
            {
                "model": "m",
                "contents": [{"parts": [{"text": "x"}]}],
                "generationConfig": {"candidateCount": 2},
            },
        ),
    ],
)
def test_h16_several_candidates_are_never_dropped_in_silence(client, body):
    request = read_request(client, body)
    for upstream in NAMES:
        severities = {loss.path: loss.severity for loss in write_request(upstream, request).losses}
        assert (severities.get("n") == "capability") == (upstream != client)


def test_h28_a_custom_tool_call_is_raw_text_again():
    undo = Undo(tools={"apply_patch": Sent("", "apply_patch", "custom")})
    arguments = encode({"input": "*** Begin\n+x"}).decode()
    chunks = [
        call_delta(0, "", "c", "apply_patch"),
        call_delta(0, arguments[:9]),
        call_delta(0, arguments[9:]),
        *END,
    ]
    events = events_of("openai_chat", chunks, Reading(undo=undo))
    objects = objects_of("openai_responses", events)
    stream_rules.check("openai_responses", objects)
    assert [one["delta"] for one in objects if one["type"] == "response.custom_tool_call_input.delta"] == [
        "*** Begin\n+x"
    ]
    (item,) = objects[-1]["response"]["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin\n+x")


def test_h39_the_stand_in_for_structured_output_becomes_text():
    stream = golden("anthropic", "tools")["stream"]
    undo = Undo(answer_tool="weather")
    found = fold(events_of("anthropic", stream, Reading(undo=undo)))
    assert [part.text for part in found.parts if isinstance(part, Text)] == [
        "Let me look.",
        '{"city":"Oslo"}',
    ]
    assert found.finish.reason == "stop"
    whole = DIALECTS["anthropic"].read_response(golden("anthropic", "tools")["response"], Reading(undo=undo))
    assert whole.parts == found.parts
    assert whole.finish.reason == "stop"


def test_h43_a_refusal_is_an_answer_in_every_dialect():
    for upstream in NAMES:
        for client in NAMES:
            response = DIALECTS[upstream].read_response(golden(upstream, "refusal")["response"], Reading())
            body = DIALECTS[client].write_response(response, REPLY, None)
            told = {
                "openai_chat": lambda body=body: body["choices"][0]["message"]["refusal"],
                "openai_responses": lambda body=body: body["output"][0]["content"][0]["refusal"],
                "anthropic": lambda body=body: body["stop_reason"] == "refusal",
                "gemini": lambda body=body: (
                    body.get("promptFeedback")
                    or body["candidates"][0]["content"]["parts"]
                    or body["candidates"][0]["finishReason"] == "SAFETY"
                ),
            }
            assert told[client](), (upstream, client)
            assert response.usage.input == 9


@pytest.mark.parametrize("client", NAMES)
def test_h45_the_client_sees_the_model_it_asked_for(client):
    for upstream in NAMES:
        objects = relayed(upstream, client, golden(upstream, "plain")["stream"])
        assert "m-1" not in json.dumps(objects)
        assert "public-model" in json.dumps(objects[0])


def test_a_malformed_call_is_the_upstreams_failure():
    chunks = [
        {
            "candidates": [
                {"content": {}, "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "bad call"}
            ]
        }
    ]
    failed = events_of("gemini", chunks)[-1]
    assert isinstance(failed, Failed)
    assert failed.message == "bad call"


def test_events_after_the_end_of_a_stream_are_passed_over():
    for dialect in NAMES:
        reader = DIALECTS[dialect].reader(Reading())
        stream = golden(dialect, "plain")["stream"]
        for one in stream:
            reader.feed(one)
        reader.close()
        assert not [event for event in reader.feed(stream[-2]) if isinstance(event, Finished | PartEnded)]
