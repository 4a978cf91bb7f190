"""Hazards of streams, each by the number it has in our list: calls, reasons and counts."""

from __future__ import annotations

import json

import pytest
from tests.support import stream_rules
from tests.support.chat_chunks import END, INTERLEAVED, call_delta, calls_of, chat_chunk
from tests.support.dialects import (
    NAMES,
    READING,
    REPLY,
    events_of,
    golden,
    objects_of,
    relayed,
)

from tollway.core.dialects.base import DONE, Bill, Reading, Reply
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import (
    Counted,
    Text,
    Usage,
)
from tollway.core.fold import fold


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
