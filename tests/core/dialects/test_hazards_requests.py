"""Hazards of requests, each by the number it has in our list: the shape of conversations."""

from __future__ import annotations

import json

import pytest
from tests.support.chat_bodies import TWO, calling, chat, losses, result, user
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

from tollway.core.dialects.gemini.parts import SENTINEL
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import ToolResult


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


ANSWERS = {
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


def answered(upstream):
    return DIALECTS[upstream].read_response(ANSWERS[upstream], READING)


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
