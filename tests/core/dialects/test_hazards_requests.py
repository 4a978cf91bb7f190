"""Hazards of requests, each by the number it has in our list: conversations, tools, parameters."""

from __future__ import annotations

import json

import pytest
from tests.support.dialects import (
    NAMES,
    READING,
    REPLY,
    golden,
    read_request,
    translated,
    wire,
    write_request,
)

from tollway.core.dialects.base import Sent
from tollway.core.dialects.gemini.parts import SENTINEL
from tollway.core.dialects.gemini.schema import from_gemini, to_gemini
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.registry import read_request as read_any
from tollway.core.errors import GatewayError
from tollway.core.exchange import Opaque, Text, ToolCall, ToolResult


def chat(*messages, **more):
    return {"model": "m", "messages": list(messages), **more}


def user(content):
    return {"role": "user", "content": content}


def calling(*calls, content=None):
    listed = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed}


def result(call_id, content):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


TWO = [user("go"), calling(("a", "one", "{}"), ("b", "two", "{}"))]


def losses(written, severity="note"):
    return {loss.path for loss in written.losses if loss.severity == severity}


def test_h18_parallel_results_become_one_turn_in_the_order_of_the_calls():
    body = chat(*TWO, result("b", "second"), result("a", "first"), user("and?"))
    messages = translated("openai_chat", "anthropic", body).body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    blocks = messages[-1]["content"]
    assert [block.get("tool_use_id") for block in blocks] == ["a", "b", None]
    contents = translated("openai_chat", "gemini", body).body["contents"]
    names = [part["functionResponse"]["name"] for part in contents[-1]["parts"][:2]]
    assert names == ["one", "two"]


@pytest.mark.parametrize("upstream", NAMES[1:])
def test_h18_a_missing_result_is_said_to_be_missing(upstream):
    body = chat(*TWO, result("a", "first"), user("and?"))
    written = translated("openai_chat", upstream, body)
    again = read_request(upstream, wire(upstream, read_request("openai_chat", body), written.body))
    results = [part for turn in again.turns for part in turn.parts if isinstance(part, ToolResult)]
    assert len(results) == 2
    assert "No result" in results[1].content[0].text
    assert "messages" in losses(written)


@pytest.mark.parametrize("upstream", NAMES[1:])
def test_h18_a_result_without_a_call_becomes_text(upstream):
    body = chat(user("go"), result("gone", "lost and found"), user("and?"))
    written = translated("openai_chat", upstream, body)
    text = json.dumps(written.body)
    assert "lost and found" in text and "Result of an earlier tool call" in text
    assert "function_call_output" not in text and "tool_result" not in text and "functionResponse" not in text


def test_h19_ids_are_made_legal_the_same_way_every_time():
    odd = "call:1/\u00fc" + "x" * 80
    body = chat(user("go"), calling((odd, "one", "{}")), result(odd, "ok"))
    found = []
    for _ in range(2):
        call, answer = translated("openai_chat", "anthropic", body).body["messages"][1:]
        assert call["content"][0]["id"] == answer["content"][0]["tool_use_id"]
        found.append(call["content"][0]["id"])
    assert found[0] == found[1]
    assert found[0].replace("_", "").isalnum()


def test_h19_gemini_results_find_their_call_by_name_and_order():
    body = {
        "model": "m",
        "contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "f", "args": {"n": 1}}},
                    {"functionCall": {"name": "f", "args": {"n": 2}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"result": "r1"}}},
                    {"functionResponse": {"name": "f", "response": {"result": "r2"}}},
                ],
            },
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"n": 3}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "r3"}}}]},
        ],
    }
    written = translated("gemini", "openai_chat", body).body["messages"]
    asked = {
        call["id"]: call["function"]["arguments"]
        for message in written
        for call in message.get("tool_calls", ())
    }
    told = {message["tool_call_id"]: message["content"] for message in written if message["role"] == "tool"}
    assert len(asked) == 3
    assert [(asked[call_id], text) for call_id, text in told.items()] == [
        ('{"n":1}', "r1"),
        ('{"n":2}', "r2"),
        ('{"n":3}', "r3"),
    ]
    # The conversation as it was one turn earlier gives the same ids.
    earlier = {**body, "contents": body["contents"][:3]}
    assert set(list(asked)[:2]) == {
        call["id"]
        for message in translated("gemini", "openai_chat", earlier).body["messages"]
        for call in message.get("tool_calls", ())
    }


def test_h20_images_in_results_reach_a_chat_upstream_in_a_user_message():
    for client in NAMES[1:]:
        messages = translated(client, "openai_chat", golden(client, "tool_result_images")["request"]).body[
            "messages"
        ]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
        assert messages[2]["content"] == "Here:"
        kinds = [part["type"] for part in messages[3]["content"]]
        assert kinds == ["text", "image_url"]


def test_h20_results_become_objects_for_gemini():
    body = chat(*TWO, result("a", "plain"), result("b", '{"n": 1}'))
    parts = translated("openai_chat", "gemini", body).body["contents"][-1]["parts"]
    assert [part["functionResponse"]["response"] for part in parts] == [{"result": "plain"}, {"n": 1}]


def test_h20_a_failed_result_says_so_where_there_is_no_field():
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            user("go"),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "one", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "no such file", "is_error": True}
                ],
            },
        ],
    }
    assert (
        translated("anthropic", "openai_chat", body).body["messages"][-1]["content"] == "Error: no such file"
    )
    assert (
        translated("anthropic", "openai_responses", body).body["input"][-1]["output"] == "Error: no such file"
    )
    answer = translated("anthropic", "gemini", body).body["contents"][-1]["parts"][0]["functionResponse"]
    assert answer["response"] == {"error": "no such file"}


@pytest.mark.parametrize(
    ("upstream", "where", "role"), [("anthropic", "messages", "assistant"), ("gemini", "contents", "model")]
)
def test_h21_roles_alternate_and_start_with_the_user(upstream, where, role):
    body = chat(
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "Hi."},
        {"role": "assistant", "content": "Still there?"},
        user("a"),
        user(""),
        user("b"),
        {"role": "assistant", "content": ""},
        user("c"),
    )
    turns = translated("openai_chat", upstream, body).body[where]
    assert [turn["role"] for turn in turns] == ["user", role, "user"]
    assert '""' not in json.dumps(turns)


@pytest.mark.parametrize("upstream", ["anthropic", "gemini"])
def test_h21_a_conversation_of_instructions_alone_still_has_a_user(upstream):
    body = translated("openai_chat", upstream, chat({"role": "system", "content": "Write a poem."})).body
    turns = body["messages" if upstream == "anthropic" else "contents"]
    assert [turn["role"] for turn in turns] == ["user"]


THINKING = [
    {"type": "thinking", "thinking": "hm", "signature": "RXJVQg=="},
    {"type": "redacted_thinking", "data": "UmVk"},
    {"type": "thinking", "thinking": "", "signature": "T25seQ=="},
    {"type": "text", "text": "Look:"},
    {"type": "tool_use", "id": "a", "name": "one", "input": {}},
]


def echoed(client, response):
    """What a client that keeps everything sends back after an answer."""
    body = DIALECTS[client].write_response(response, REPLY, None)
    if client == "openai_chat":
        return chat(user("go"), body["choices"][0]["message"], result("a", "ok"), tools=[])
    if client == "openai_responses":
        output = {"type": "function_call_output", "call_id": "a", "output": "ok"}
        return {"model": "m", "input": [{"role": "user", "content": "go"}, *body["output"], output]}
    if client == "gemini":
        response_part = {"functionResponse": {"id": "a", "name": "one", "response": {"result": "ok"}}}
        contents = [
            {"role": "user", "parts": [{"text": "go"}]},
            body["candidates"][0]["content"],
            {"role": "user", "parts": [response_part]},
        ]
        return {"model": "m", "contents": contents}
    outcome = {"type": "tool_result", "tool_use_id": "a", "content": "ok"}
    return {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            user("go"),
            {"role": "assistant", "content": body["content"]},
            {"role": "user", "content": [outcome]},
        ],
    }


def answered(upstream):
    bodies = {
        "anthropic": {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": THINKING,
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
        "gemini": {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"text": "hm", "thought": True, "thoughtSignature": "c2lnLTE="},
                            {"text": "Look:", "thoughtSignature": "c2lnLTI="},
                            {"text": "", "thoughtSignature": "c2lnLTM="},
                            {
                                "functionCall": {"id": "a", "name": "one", "args": {}},
                                "thoughtSignature": "c2lnLTQ=",
                            },
                        ],
                    },
                    "finishReason": "STOP",
                }
            ]
        },
        "openai_responses": {
            "id": "r",
            "object": "response",
            "status": "completed",
            "model": "m",
            "output": [
                {
                    "type": "reasoning",
                    "id": "rs_1.x",
                    "summary": [{"type": "summary_text", "text": "hm"}],
                    "encrypted_content": "gAAA.BB==",
                },
                {
                    "type": "function_call",
                    "id": "fc_1",
                    "call_id": "a",
                    "name": "one",
                    "arguments": "{}",
                    "status": "completed",
                },
            ],
        },
        "openai_chat": {
            "id": "c",
            "object": "chat.completion",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "reasoning_details": [
                            {
                                "type": "reasoning.text",
                                "text": "hm",
                                "signature": "c2ln",
                                "format": "x-v1",
                                "index": 0,
                                "id": "z",
                            }
                        ],
                        "tool_calls": [
                            {"id": "a", "type": "function", "function": {"name": "one", "arguments": "{}"}}
                        ],
                    },
                }
            ],
        },
    }
    return DIALECTS[upstream].read_response(bodies[upstream], READING)


@pytest.mark.parametrize("client", NAMES)
def test_h22_anthropic_thinking_comes_home_block_by_block(client):
    if client == "anthropic":
        return  # Same dialect: the native relay's business.
    request = read_request(client, echoed(client, answered("anthropic")))
    sent = write_request("anthropic", request, scope="sc0pe")
    assistant = next(message for message in sent.body["messages"] if message["role"] == "assistant")
    assert [block for block in assistant["content"] if "thinking" in block["type"]] == THINKING[:3]
    assert assistant["content"][-1]["type"] == "tool_use"


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
def test_h22_no_seal_reaches_another_account_or_dialect(client, upstream):
    secrets = ("RXJVQg==", "UmVk", "c2lnLTQ=", "gAAA.BB==", '"c2ln"', "tw1.", "dHcxL")
    request = read_request(client, echoed(client, answered(upstream)))
    for target in NAMES:
        if target == client:
            continue
        sent = write_request(target, request, scope="another")
        if client != upstream:
            assert not [secret for secret in secrets if secret in json.dumps(sent.body)], target
            assert sent.losses


def test_h22_thought_by_budget_is_left_out_when_the_signed_thought_is_gone():
    body = chat(user("go"), calling(("a", "one", "{}")), result("a", "ok"), reasoning_effort="high")
    sent = translated("openai_chat", "anthropic", body, thinking="budget")
    assert "thinking" not in sent.body
    assert "reasoning" in losses(sent)
    fresh = translated(
        "openai_chat", "anthropic", chat(user("go"), reasoning_effort="high"), thinking="budget"
    )
    assert fresh.body["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("client", NAMES[:3])
def test_h23_gemini_signatures_come_home_on_the_parts_they_sat_on(client):
    request = read_request(client, echoed(client, answered("gemini")))
    sent = write_request("gemini", request, scope="sc0pe")
    model = next(content for content in sent.body["contents"] if content["role"] == "model")
    signed = {part["thoughtSignature"]: part for part in model["parts"] if "thoughtSignature" in part}
    assert signed["c2lnLTE="]["text"] == "hm" and signed["c2lnLTE="]["thought"] is True
    assert "functionCall" in signed["c2lnLTQ="]
    assert signed["c2lnLTI="]["text"] == "Look:"
    assert signed["c2lnLTM="]["text"] == ""


def test_h23_calls_of_other_models_are_vouched_for():
    body = chat(*TWO, result("a", "1"), result("b", "2"))
    model = translated("openai_chat", "gemini", body).body["contents"][1]
    assert [part.get("thoughtSignature") for part in model["parts"]] == [SENTINEL, None]


@pytest.mark.parametrize("client", ["openai_chat", "anthropic", "gemini"])
def test_h24_encrypted_reasoning_comes_home_beside_its_call(client):
    request = read_request(client, echoed(client, answered("openai_responses")))
    sent = write_request("openai_responses", request, scope="sc0pe").body["input"]
    kinds = [item["type"] for item in sent]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert sent[1]["encrypted_content"] == "gAAA.BB=="
    assert sent[1]["id"] == "rs_1.x"
    assert sent[1]["summary"] == [{"type": "summary_text", "text": "hm"}]
    # On another account the reasoning goes, and no id of it is left behind.
    elsewhere = write_request("openai_responses", request, scope="another").body["input"]
    assert [item["type"] for item in elsewhere] == ["message", "function_call", "function_call_output"]
    assert "id" not in elsewhere[1]


@pytest.mark.parametrize("client", ["openai_responses", "anthropic", "gemini"])
def test_h24_a_routers_reasoning_details_come_home_whole(client):
    request = read_request(client, echoed(client, answered("openai_chat")))
    sent = write_request("openai_chat", request, scope="sc0pe").body["messages"]
    (entry,) = sent[1]["reasoning_details"]
    assert entry == {
        "type": "reasoning.text",
        "text": "hm",
        "signature": "c2ln",
        "format": "x-v1",
        "index": 0,
        "id": "z",
    }


def test_h24_the_upstream_is_asked_for_sealed_reasoning_and_told_to_store_nothing():
    sent = translated("openai_chat", "openai_responses", chat(user("go"))).body
    assert sent["store"] is False
    assert "reasoning.encrypted_content" in sent["include"]


@pytest.mark.parametrize("upstream", ["openai_chat", "anthropic", "gemini"])
@pytest.mark.parametrize("field", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}])
def test_h25_stored_conversations_are_never_ignored(upstream, field):
    body = {"model": "m", "input": "x", **field}
    assert losses(translated("openai_responses", upstream, body), "capability") == set(field)


def test_h26_instructions_and_developer_messages_keep_their_order():
    body = {
        "model": "m",
        "instructions": "I.",
        "input": [
            {"role": "developer", "content": "D1."},
            {"role": "developer", "content": "D2."},
            user("hi"),
        ],
    }
    messages = translated("openai_responses", "openai_chat", body).body["messages"]
    assert [(one["role"], one["content"]) for one in messages] == [
        ("system", "I."),
        ("system", "D1."),
        ("system", "D2."),
        ("user", "hi"),
    ]
    system = translated("openai_responses", "anthropic", body).body["system"]
    assert [block["text"] for block in system] == ["I.", "D1.", "D2."]
    assert len(translated("openai_responses", "gemini", body).body["systemInstruction"]["parts"]) == 3


def test_h27_a_system_message_amid_the_conversation_is_kept():
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [user("a"), {"role": "system", "content": "Now be terse."}, user("b")],
    }
    assert [one["role"] for one in translated("anthropic", "openai_chat", body).body["messages"]] == [
        "user",
        "system",
        "user",
    ]
    assert [one["role"] for one in translated("anthropic", "openai_responses", body).body["input"]] == [
        "user",
        "system",
        "user",
    ]
    (content,) = translated("anthropic", "gemini", body).body["contents"]
    assert content["parts"][1] == {"text": "<system>\nNow be terse.\n</system>"}
    chat_body = chat(user("a"), {"role": "system", "content": "Now be terse."}, user("b"))
    (message,) = translated("openai_chat", "anthropic", chat_body).body["messages"]
    assert message["content"][1]["text"] == "<system>\nNow be terse.\n</system>"
    taken = translated("openai_chat", "anthropic", chat_body, mid_system=True).body["messages"]
    assert [one["role"] for one in taken] == ["user", "system", "user"]


CODEX = {
    "model": "m",
    "input": [
        user("patch it"),
        {"type": "custom_tool_call", "call_id": "p1", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "p1", "output": "Done"},
        {"type": "function_call", "call_id": "n1", "name": "read", "namespace": "files", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "n1", "output": "text"},
        {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "git"}},
        {
            "type": "tool_search_output",
            "call_id": "s1",
            "execution": "client",
            "tools": [
                {"type": "function", "name": "git_log", "parameters": {"type": "object", "properties": {}}}
            ],
        },
        user("go on"),
    ],
    "tools": [
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Patches.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"},
        },
        {
            "type": "namespace",
            "name": "files",
            "description": "Files.",
            "tools": [
                {
                    "type": "function",
                    "name": "read",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                }
            ],
        },
        {
            "type": "tool_search",
            "execution": "client",
            "description": "Finds tools.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
        },
        {"type": "web_search", "external_web_access": False},
        {
            "type": "function",
            "name": "shell",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        },
    ],
}


@pytest.mark.parametrize("upstream", ["openai_chat", "anthropic", "gemini"])
def test_h28_codex_tools_are_functions_elsewhere(upstream):
    sent = translated("openai_responses", upstream, CODEX)
    tools = {
        "openai_chat": lambda: {
            one["function"]["name"]: one["function"].get("parameters") for one in sent.body["tools"]
        },
        "anthropic": lambda: {one["name"]: one["input_schema"] for one in sent.body["tools"]},
        "gemini": lambda: {
            one["name"]: one.get("parametersJsonSchema")
            for one in sent.body["tools"][0]["functionDeclarations"]
        },
    }[upstream]()
    assert list(tools) == ["apply_patch", "files__read", "tool_search", "shell", "git_log"]
    assert list(tools["apply_patch"]["properties"]) == ["input"]
    assert "start: X" in json.dumps(sent.body["tools"])
    assert sent.undo.tools["apply_patch"] == Sent("", "apply_patch", "custom")
    assert sent.undo.tools["files__read"] == Sent("files", "read", "function")
    assert sent.undo.tools["tool_search"].kind == "search"
    assert "tools.web_search" in losses(sent)
    assert not losses(sent, "capability")
    text = json.dumps(sent.body)
    assert "*** Begin" in text and "git" in text


def test_h28_codex_tools_go_home_as_they_came():
    sent = translated("openai_responses", "openai_responses", CODEX)
    assert sent.body["tools"] == CODEX["tools"]
    assert [item.get("type", "message") for item in sent.body["input"]] == [
        item.get("type", "message") for item in CODEX["input"]
    ]
    assert sent.losses == ()


def test_h29_a_responses_body_on_the_chat_route_is_read_for_what_it_is():
    body = {
        "model": "m",
        "input": [user("hi")],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
    }
    request = read_any("openai_chat", body)
    assert request.origin == "openai_responses"
    assert request.tools[0].name == "f"
    flat = read_any("openai_chat", chat(user("hi"), tools=body["tools"]))
    assert flat.tools[0].name == "f"


def marked(text):
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}


def test_h30_cache_marks_stay_with_those_who_know_them():
    body = {
        "model": "m",
        "max_tokens": 9,
        "system": [marked("s")],
        "messages": [user([marked("u")])],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
    }
    for upstream in ("openai_chat", "openai_responses", "gemini"):
        sent = translated("anthropic", upstream, body)
        assert "cache" not in json.dumps(sent.body)
        assert "cache_control" in losses(sent)
    home = translated("anthropic", "anthropic", body).body
    assert (
        home["system"] == body["system"]
        and home["messages"] == body["messages"]
        and home["tools"] == body["tools"]
    )
    known = translated("anthropic", "openai_chat", body, cache_marks=True).body["messages"]
    assert known[1]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}


def test_h30_anthropic_gets_no_more_marks_than_it_takes():
    parts = [
        {"type": "text", "text": str(n), "prompt_cache_breakpoint": {"mode": "explicit"}} for n in range(6)
    ]
    sent = translated("openai_chat", "anthropic", chat(user(parts)))
    blocks = sent.body["messages"][0]["content"]
    assert ["cache_control" in block for block in blocks] == [False, False, True, True, True, True]
    assert "cache_control" in losses(sent)


def test_h31_claude_codes_own_line_reaches_anthropic_only():
    line = "x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli; cch=abc"
    body = {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": line}, {"type": "text", "text": "Help."}],
        "messages": [user("hi")],
    }
    assert translated("anthropic", "anthropic", body).body["system"][0]["text"] == line
    for upstream in ("openai_chat", "openai_responses", "gemini"):
        sent = json.dumps(translated("anthropic", upstream, body).body)
        assert "billing-header" not in sent and "Help." in sent


def test_h32_fields_only_anthropic_knows_are_told_not_sent():
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [user("hi")],
        "context_management": {"edits": []},
        "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "low", "future": 1},
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}],
    }
    for upstream in ("openai_chat", "openai_responses", "gemini"):
        sent = translated("anthropic", upstream, body)
        assert {"context_management", "output_config", "tools[].defer_loading"} <= losses(sent)
        text = json.dumps(sent.body)
        assert "context_management" not in text and "defer_loading" not in text and "display" not in text
    home = translated("anthropic", "anthropic", body).body
    assert {name: home[name] for name in body} == body


WIDE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "kind": {"const": "a"},
        "maybe": {"type": ["string", "null"], "format": "uri", "examples": ["x"]},
        "either": {"oneOf": [{"type": "string"}, {"type": "integer", "exclusiveMinimum": 3}]},
        "tree": {"$ref": "#/$defs/node"},
        "both": {"allOf": [{"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}]},
        "list": {"type": "array"},
        "opt": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["kind", "ghost"],
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}}}
    },
}


def test_h33_schemas_fit_geminis_subset():
    assert to_gemini(WIDE) == {
        "type": "OBJECT",
        "properties": {
            "kind": {"enum": ["a"], "type": "STRING"},
            "maybe": {"type": "STRING", "nullable": True},
            "either": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER", "minimum": 3}]},
            "tree": {"type": "OBJECT", "properties": {"next": {"type": "OBJECT"}, "v": {"type": "INTEGER"}}},
            "both": {"type": "OBJECT", "properties": {"x": {"type": "STRING"}}, "required": ["x"]},
            "list": {"type": "ARRAY", "items": {"type": "STRING"}},
            "opt": {"nullable": True, "type": "NUMBER"},
        },
        "required": ["kind"],
    }


def test_h33_models_that_take_json_schema_get_it_and_tools_without_arguments_declare_none():
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema}}
        for name, schema in (("f", WIDE), ("g", {"type": "object", "properties": {}}))
    ]
    first, second = translated("openai_chat", "gemini", chat(user("x"), tools=tools)).body["tools"][0][
        "functionDeclarations"
    ]
    assert first == {"name": "f", "parametersJsonSchema": WIDE}
    assert second == {"name": "g"}
    older = translated("openai_chat", "gemini", chat(user("x"), tools=tools), json_schema=False).body[
        "tools"
    ][0]
    assert older["functionDeclarations"][0]["parameters"] == to_gemini(WIDE)


def test_h33_geminis_own_schemas_become_json_schema():
    assert from_gemini(
        {
            "type": "OBJECT",
            "nullable": True,
            "properties": {"a": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "1"}},
        }
    ) == {
        "type": ["object", "null"],
        "properties": {"a": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    }


@pytest.mark.parametrize("upstream", NAMES[1:])
def test_h34_tool_names_are_changed_reversibly(upstream):
    names = ["2nd.try/now", "2nd.try:now", "fine_name", "x" * 90]
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
        for name in names
    ]
    sent = translated(
        "openai_chat",
        upstream,
        chat(user("x"), tools=tools, tool_choice={"type": "function", "function": {"name": names[0]}}),
    )
    text = json.dumps(sent.body["tools"])
    back = {name: sent.undo.tools[name].name for name in sent.undo.tools}
    assert set(names) - set(back.values()) <= {"fine_name", "x" * 90, "2nd.try:now"}
    assert len(set(back)) == len(back)
    assert all(name in text for name in back)
    chosen = json.dumps(sent.body.get("tool_choice") or sent.body.get("toolConfig"))
    assert next(name for name, original in back.items() if original == names[0]) in chosen


def test_h35_strictness_is_said_outright_where_silence_means_yes():
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    ]
    sent = translated("openai_chat", "openai_responses", chat(user("x"), tools=tools)).body["tools"]
    assert sent[0]["strict"] is False
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [user("x")],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    }
    assert "strict" not in translated("anthropic", "openai_chat", body).body["tools"][0]["function"]


@pytest.mark.parametrize(
    ("asked", "target", "sent"),
    [
        (None, {}, 16_384),
        (None, {"default_output_tokens": 8_000, "max_output_tokens": 4_000}, 4_000),
        (999_999, {"max_output_tokens": 64_000}, 64_000),
        (50, {"max_output_tokens": 64_000}, 50),
    ],
)
def test_h36_anthropic_always_gets_a_limit_within_the_models(asked, target, sent):
    body = chat(user("x"), **({"max_tokens": asked} if asked else {}))
    assert translated("openai_chat", "anthropic", body, **target).body["max_tokens"] == sent


def test_h36_a_thinking_budget_fits_inside_the_limit():
    body = chat(user("x"), max_tokens=4_000, reasoning_effort="high")
    sent = translated("openai_chat", "anthropic", body, thinking="budget").body
    assert 1_024 <= sent["thinking"]["budget_tokens"] < sent["max_tokens"] == 4_000
    small = translated(
        "openai_chat",
        "anthropic",
        chat(user("x"), max_tokens=500, reasoning_effort="high"),
        thinking="budget",
    )
    assert "thinking" not in small.body and "reasoning" in losses(small)


def test_h37_parameters_without_a_home_are_told():
    body = chat(
        user("x"),
        temperature=1.6,
        top_p=0.5,
        seed=1,
        presence_penalty=1,
        logit_bias={"1": 1},
        stop=["a", " "],
        logprobs=True,
    )
    sent = translated("openai_chat", "anthropic", body)
    assert sent.body["temperature"] == 1 and "top_p" not in sent.body
    assert sent.body["stop_sequences"] == ["a"]
    assert {"temperature", "top_p", "seed", "presence_penalty", "logit_bias"} <= losses(sent)
    assert losses(sent, "capability") == {"logprobs"}
    none = translated("openai_chat", "anthropic", body, sampling=False)
    assert "temperature" not in none.body
    responses = translated("openai_chat", "openai_responses", body)
    assert {"seed", "presence_penalty", "stop", "logit_bias"} <= losses(responses)
    older = translated(
        "anthropic",
        "openai_chat",
        {"model": "m", "max_tokens": 7, "messages": [user("x")], "top_k": 3},
        completion_tokens_field="max_tokens",
    )
    assert older.body["max_tokens"] == 7 and "max_completion_tokens" not in older.body
    assert losses(older) == {"top_k"}


def test_h38_a_forced_tool_and_thought_are_not_asked_for_together():
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = chat(user("x"), tools=tools, tool_choice="required", reasoning_effort="high")
    for thinking in ("budget", "effort"):
        sent = translated("openai_chat", "anthropic", body, thinking=thinking)
        assert "thinking" not in sent.body
        assert sent.body["tool_choice"] == {"type": "any"}
        assert "reasoning" in losses(sent)


def test_h39_structured_output_is_a_forced_tool_where_there_is_nothing_better():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = chat(
        user("x"), response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    )
    sent = translated("openai_chat", "anthropic", body, json_schema=False)
    (tool,) = sent.body["tools"]
    assert tool["input_schema"] == schema
    assert sent.body["tool_choice"] == {"type": "tool", "name": tool["name"]}
    assert sent.undo.answer_tool == tool["name"]
    assert "output_config" not in sent.body
    plain = translated("openai_chat", "anthropic", chat(user("x"), response_format={"type": "json_object"}))
    assert "JSON" in plain.body["system"]


def test_h40_stop_sequences_are_cut_to_what_the_target_takes():
    body = {"model": "m", "max_tokens": 9, "messages": [user("x")], "stop_sequences": list("abcdefg")}
    sent = translated("anthropic", "openai_chat", body)
    assert sent.body["stop"] == list("abcd") and "stop" in losses(sent)
    assert translated("anthropic", "gemini", body).body["generationConfig"]["stopSequences"] == list("abcde")


def test_h41_token_probabilities_are_asked_for_in_each_dialects_words():
    body = chat(user("x"), logprobs=True, top_logprobs=3)
    assert translated("openai_chat", "gemini", body).body["generationConfig"] == {
        "responseLogprobs": True,
        "logprobs": 3,
    }
    sent = translated("openai_chat", "openai_responses", body).body
    assert sent["top_logprobs"] == 3 and "message.output_text.logprobs" in sent["include"]


def test_h44_words_come_before_calls_in_a_replayed_turn():
    body = {
        "model": "m",
        "input": [
            user("x"),
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Calling."}],
            },
            {"type": "function_call_output", "call_id": "a", "output": "ok"},
        ],
    }
    messages = translated("openai_responses", "anthropic", body).body["messages"]
    assert [block["type"] for block in messages[1]["content"]] == ["text", "tool_use"]
    chatted = translated("openai_responses", "openai_chat", body).body["messages"]
    assert chatted[1]["content"] == "Calling." and chatted[1]["tool_calls"][0]["id"] == "a"


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": "all"}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"conversation": []}, ""),
        ({"conversation": [7]}, "[0]"),
        ({"conversation": [{"role": "wizard", "content": "x", "parts": []}]}, "[0].role"),
    ],
)
def test_nonsense_is_refused_by_name(dialect, change, param):
    body = json.loads(json.dumps(golden(dialect, "plain")["request"]))
    where = {
        "openai_chat": "messages",
        "openai_responses": "input",
        "anthropic": "messages",
        "gemini": "contents",
    }[dialect]
    if "temperature" in change and dialect == "gemini":
        body["generationConfig"].update(change)
    elif "conversation" in change:
        body[where] = change["conversation"]
    else:
        body.update(change)
    if dialect == "openai_responses" and change.get("conversation") == []:
        return
    if dialect == "gemini" and change.get("tools") == [{"type": "function"}]:
        return
    with pytest.raises(GatewayError) as refused:
        read_request(dialect, body)
    assert refused.value.status == 400
    assert param in (refused.value.param or "")


def test_gemini_takes_both_spellings():
    body = {
        "model": "models/m",
        "system_instruction": {"parts": [{"text": "s"}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"inline_data": {"mime_type": "image/png", "data": "AA=="}}, {"text": "x"}],
            }
        ],
        "generation_config": {
            "max_output_tokens": 5,
            "top_p": 0.5,
            "thinking_config": {"include_thoughts": True, "thinking_budget": -1},
        },
        "tools": [
            {
                "function_declarations": [
                    {"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}
                ]
            }
        ],
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
    }
    request = read_request("gemini", body)
    assert request.model == "m"
    assert request.sampling.max_output_tokens == 5 and request.sampling.top_p == 0.5
    assert request.reasoning.show == "summary" and request.reasoning.budget_tokens == -1
    assert request.tools[0].schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert request.tool_choice.names == ("f",)
    assert request.turns[1].parts[0].media_type == "image/png"


def test_unknown_blocks_are_opaque_at_home_and_a_loss_abroad():
    block = {"type": "container_upload", "file_id": "file_1"}
    body = {"model": "m", "max_tokens": 9, "messages": [user([block, {"type": "text", "text": "x"}])]}
    request = read_request("anthropic", body)
    assert request.turns[0].parts[0] == Opaque("anthropic", block)
    assert translated("anthropic", "anthropic", body).body["messages"] == body["messages"]
    assert "messages[].content.container_upload" in losses(translated("anthropic", "openai_chat", body))


@pytest.mark.parametrize(
    ("part", "upstream", "lost"),
    [
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}, "anthropic", "audio"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "anthropic", "document"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "openai_responses", "file_id"),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "gemini", "image"),
    ],
)
def test_media_the_target_cannot_take_is_a_lost_capability(part, upstream, lost):
    assert losses(
        translated("openai_chat", upstream, chat(user([part, {"type": "text", "text": "x"}]))), "capability"
    ) == {lost}


def test_media_by_url_goes_where_urls_are_loaded():
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    body = chat(user([part]))
    assert translated("openai_chat", "anthropic", body).body["messages"][0]["content"][0]["source"] == {
        "type": "url",
        "url": "https://example.com/a.png",
    }
    file = translated("openai_chat", "gemini", body, fetches_urls=True).body["contents"][0]["parts"][0][
        "fileData"
    ]
    assert file == {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}
    assert (
        translated("openai_chat", "openai_responses", body).body["input"][0]["content"][0]["detail"] == "low"
    )
    assert "url" in losses(
        translated("openai_chat", "openai_responses", body, fetches_urls=False), "capability"
    )


def test_audio_reaches_gemini():
    part = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}
    sent = translated("openai_chat", "gemini", chat(user([part]))).body["contents"][0]["parts"][0]
    assert sent == {"inlineData": {"mimeType": "audio/mpeg", "data": "AA=="}}


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
def test_tool_choice_crosses(client, upstream, choice):
    bodies = {
        "openai_chat": {"tool_choice": choice},
        "openai_responses": {"tool_choice": choice},
        "anthropic": {"tool_choice": {"type": {"required": "any"}.get(choice, choice)}},
        "gemini": {
            "toolConfig": {"functionCallingConfig": {"mode": {"required": "ANY"}.get(choice, choice.upper())}}
        },
    }
    body = {**golden(client, "tools")["request"], **bodies[client]}
    sent = translated(client, upstream, body).body
    for name, value in bodies[upstream].items():
        assert sent[name] == value


def test_a_choice_among_some_tools_offers_anthropic_no_others():
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": name}} for name in "ab"],
        },
    }
    body = chat(user("x"), tools=tools, tool_choice=allowed)
    sent = translated("openai_chat", "anthropic", body).body
    assert [tool["name"] for tool in sent["tools"]] == ["a", "b"] and sent["tool_choice"]["type"] == "any"
    assert translated("openai_chat", "gemini", body).body["toolConfig"]["functionCallingConfig"][
        "allowedFunctionNames"
    ] == ["a", "b"]
    assert translated("openai_chat", "openai_responses", body).body["tool_choice"]["mode"] == "required"


def test_parallel_calls_can_be_forbidden():
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = chat(user("x"), tools=tools, parallel_tool_calls=False)
    assert translated("openai_chat", "anthropic", body).body["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    assert "parallel_tool_calls" in losses(translated("openai_chat", "gemini", body))


def test_legacy_functions_are_tools():
    body = chat(
        user("x"),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "ok"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    request = read_request("openai_chat", body)
    call, answer = request.turns[1].parts[0], request.turns[2].parts[0]
    assert isinstance(call, ToolCall) and isinstance(answer, ToolResult)
    assert call.id == answer.call_id
    assert request.tool_choice.names == ("f",)
    assert isinstance(answer.content[0], Text)
