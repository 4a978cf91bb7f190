"""Requests beyond the numbered hazards: what is refused, what is opaque, and where media and choices go."""

from __future__ import annotations

import json

import pytest
from tests.support.chat_bodies import chat, losses, user
from tests.support.dialects import (
    NAMES,
    golden,
    read_request,
    translated,
)

from tollway.core.errors import GatewayError
from tollway.core.exchange import Opaque, Text, ToolCall, ToolResult


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


@pytest.mark.parametrize(
    ("said", "effort", "budget", "show"),
    [
        ({"reasoning_effort": "low"}, "low", None, None),
        ({"reasoning": {"effort": "high"}}, "high", None, "summary"),
        ({"reasoning": {"max_tokens": 2000}}, None, 2000, "summary"),
        ({"reasoning": {"enabled": True, "exclude": True}}, None, None, "none"),
        ({"reasoning": {"enabled": False}}, "none", None, "summary"),
    ],
)
def test_openrouters_reasoning_is_a_wish_too(said, effort, budget, show):
    wish = read_request("openai_chat", chat(user("x"), **said)).reasoning
    assert (wish.effort, wish.budget_tokens, wish.show) == (effort, budget, show)


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
