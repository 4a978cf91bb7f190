"""Hazards of streams, each by the number it has in our list: what upstreams do, and what clients must never see."""

from __future__ import annotations

import json

import pytest
from tests.support import stream_rules
from tests.support.dialects import (
    NAMES,
    READING,
    REPLY,
    events_of,
    golden,
    objects_of,
    read_request,
    relayed,
    write_request,
)

from tollway.core.dialects.base import DONE, Bill, Reading, Reply, Sent, Undo
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Counted,
    Failed,
    Finished,
    PartEnded,
    PartGrew,
    PartStarted,
    Started,
    StillAlive,
    Text,
    ToolCall,
    Usage,
)
from tollway.core.fold import fold
from tollway.core.json import encode
from tollway.core.relay import BadAnswer


def chat_chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }


def call_delta(index, arguments=None, call_id=None, name=None, **more):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {"index": index, "function": function, **more}
    if index is None:
        del call["index"]
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    return chat_chunk({"tool_calls": [call]})


END = [chat_chunk({}, "tool_calls"), chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 5}), DONE]
INTERLEAVED = [
    call_delta(0, "", "call_a", "first"),
    call_delta(1, "", "call_b", "second"),
    call_delta(0, '{"a"'),
    call_delta(1, '{"b":'),
    chat_chunk({"content": "meanwhile"}),
    call_delta(0, ":1}"),
    call_delta(1, "2}"),
    *END,
]


def calls_of(response):
    return [(part.id, part.name, part.arguments) for part in response.parts if isinstance(part, ToolCall)]


@pytest.mark.parametrize("client", NAMES)
def test_h01_blocks_open_and_close_in_order(client):
    stream_rules.check(client, relayed("openai_chat", client, INTERLEAVED))


@pytest.mark.parametrize("client", NAMES)
def test_h02_interleaved_calls_arrive_whole(client):
    found = fold(events_of(client, relayed("openai_chat", client, INTERLEAVED)))
    assert calls_of(found) == [("call_a", "first", '{"a":1}'), ("call_b", "second", '{"b":2}')]
    assert "meanwhile" in [part.text for part in found.parts if isinstance(part, Text)]


def test_h02_second_call_waits_until_the_first_is_closed():
    objects = relayed("openai_chat", "anthropic", INTERLEAVED)
    starts = [one["content_block"]["type"] for one in objects if one["type"] == "content_block_start"]
    assert starts == ["tool_use", "tool_use", "text"]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([call_delta(0, "{}", "", "go")], id="empty id"),
        pytest.param([call_delta(0, "{}", None, "go")], id="no id"),
        pytest.param(
            [call_delta(0, "", "c", "g"), call_delta(0, None, None, "o"), call_delta(0, "{}")],
            id="name in pieces",
        ),
        pytest.param(
            [call_delta(0, "{", "c", "go"), call_delta(0, "}", "c", "go")], id="id and name repeated"
        ),
        pytest.param([call_delta(None, "{", "c", "go"), call_delta(None, "}")], id="no index"),
        pytest.param([call_delta(1, "{}", "c", "go")], id="index from one"),
        pytest.param([call_delta(0, "{}", None, "go"), call_delta(0, "", "late")], id="id after the name"),
    ],
)
@pytest.mark.parametrize("client", NAMES)
def test_h03_a_call_is_named_once_and_completely(client, chunks):
    objects = relayed("openai_chat", client, [*chunks, *END])
    stream_rules.check(client, objects)
    ((call_id, name, arguments),) = calls_of(fold(events_of(client, objects)))
    assert call_id
    assert (name, arguments) == ("go", "{}")


def test_h03_calls_that_share_an_index_but_not_an_id_are_two():
    chunks = [call_delta(0, "{}", "a", "one"), call_delta(0, "{}", "b", "two"), *END]
    assert [name for _, name, _ in calls_of(fold(events_of("openai_chat", chunks)))] == ["one", "two"]


NO_ARGUMENTS = {
    "openai_chat": [call_delta(0, "", "c", "now"), *END],
    "anthropic": [
        {
            "type": "message_start",
            "message": {"id": "m", "model": "m", "content": [], "usage": {"input_tokens": 1}},
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "c", "name": "now", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": ""},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {
            "candidates": [
                {"content": {"parts": [{"functionCall": {"id": "c", "name": "now"}}]}, "finishReason": "STOP"}
            ]
        },
    ],
}


@pytest.mark.parametrize("upstream", list(NO_ARGUMENTS))
@pytest.mark.parametrize("client", NAMES)
def test_h04_a_call_without_arguments_has_an_empty_object(client, upstream):
    objects = relayed(upstream, client, NO_ARGUMENTS[upstream])
    stream_rules.check(client, objects)
    assert calls_of(fold(events_of(client, objects))) == [("c", "now", "{}")]
    whole = DIALECTS[client].write_response(fold(events_of(upstream, NO_ARGUMENTS[upstream])), REPLY, None)
    assert calls_of(DIALECTS[client].read_response(whole, Reading())) == [("c", "now", "{}")]


def test_h05_fragments_pass_as_they_come():
    pieces = ['{"t":"\\', "u00e9", " \\ud83d", '\\ude00"}']
    chunks = [call_delta(0, "", "c", "say"), *(call_delta(0, piece) for piece in pieces), *END]
    objects = relayed("openai_chat", "anthropic", chunks)
    sent = [
        one["delta"]["partial_json"]
        for one in objects
        if one.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert sent == pieces
    ((_, _, arguments),) = calls_of(fold(events_of("gemini", relayed("openai_chat", "gemini", chunks))))
    assert json.loads(arguments) == {"t": "\u00e9 \U0001f600"}


PARTIAL = [
    {"functionCall": {"name": "move", "willContinue": True}},
    {
        "functionCall": {
            "partialArgs": [{"jsonPath": "$.to.name", "stringValue": "New ", "willContinue": True}],
            "willContinue": True,
        }
    },
    {
        "functionCall": {
            "partialArgs": [{"jsonPath": "$.to.name", "stringValue": "York"}],
            "willContinue": True,
        }
    },
    {
        "functionCall": {
            "partialArgs": [
                {"jsonPath": "$.steps[0]", "numberValue": 2},
                {"jsonPath": "$.steps[1]", "boolValue": True},
                {"jsonPath": "$.via", "nullValue": "NULL_VALUE"},
            ],
            "willContinue": True,
        }
    },
]


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        ([{"functionCall": {}}], ["move"]),
        ([{"functionCall": {"name": "stop", "args": {}}}], ["move", "stop"]),
        ([], ["move"]),
    ],
)
def test_h05_arguments_by_path_become_one_object(ending, names):
    chunks = [{"candidates": [{"content": {"parts": [part]}}]} for part in [*PARTIAL, *ending]]
    chunks.append({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]})
    found = calls_of(fold(events_of("gemini", chunks, READING)))
    assert [name for _, name, _ in found] == names
    assert json.loads(found[0][2]) == {"to": {"name": "New York"}, "steps": [2, True], "via": None}


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        ("openai_chat", "tool_calls"),
        ("anthropic", "tool_use"),
        ("openai_responses", "completed"),
        ("gemini", "STOP"),
    ],
)
def test_h06_calls_decide_the_finish_reason(client, reason):
    chunks = [
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "go", "args": {}}}]}}]},
        {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]},
    ]
    objects = relayed("gemini", client, chunks)
    told = {
        "openai_chat": lambda: [one["choices"][0]["finish_reason"] for one in objects[:-1] if one["choices"]][
            -1
        ],
        "anthropic": lambda: objects[-2]["delta"]["stop_reason"],
        "openai_responses": lambda: objects[-1]["response"]["status"],
        "gemini": lambda: objects[-1]["candidates"][0]["finishReason"],
    }
    assert told[client]() == reason


def test_h07_reason_and_usage_reach_an_anthropic_client_together():
    chunks = [
        chat_chunk({"content": "hi"}),
        chat_chunk({}, "stop"),
        chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 5}),
        DONE,
    ]
    objects = relayed("openai_chat", "anthropic", chunks)
    assert objects[-2]["delta"]["stop_reason"] == "end_turn"
    assert (objects[-2]["usage"]["input_tokens"], objects[-2]["usage"]["output_tokens"]) == (3, 5)


def test_h07_the_usage_chunk_is_the_clients_wish():
    events = events_of("anthropic", golden("anthropic", "plain")["stream"])
    asked = objects_of("openai_chat", events)
    unasked = objects_of("openai_chat", events, Reply(token="T", include_usage=False))
    assert [one["choices"] for one in asked[-2:-1]] == [[]]
    assert asked[-1] == unasked[-1] == DONE
    assert all(one["choices"] for one in unasked[:-1])
    assert all("usage" not in one for one in unasked[:-1])


def test_h07_a_chunk_after_the_usage_does_not_undo_it():
    chunks = [
        chat_chunk({"content": "hi"}),
        chat_chunk({}, "stop"),
        chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 5}),
        chat_chunk(usage=None, moderation={}),
        DONE,
    ]
    assert fold(events_of("openai_chat", chunks)).usage.output == 5


def test_h08_a_stream_without_usage_says_so_by_silence():
    events = events_of("openai_chat", [chat_chunk({"content": "hi"}), chat_chunk({}, "stop"), DONE])
    assert not [event for event in events if isinstance(event, Counted)]
    objects = objects_of(
        "anthropic", events, REPLY, Bill(cost=2, estimated=True, usage=Usage(input=4, output=1))
    )
    assert objects[-2]["usage"] == {
        "input_tokens": 4,
        "output_tokens": 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cost": 2,
        "estimated": True,
    }


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
