"""Hazards of requests, each by the number it has in our list: tools and the clients that bring them."""

from __future__ import annotations

import json

import pytest
from tests.support.chat_bodies import chat, losses, user
from tests.support.dialects import (
    translated,
)

from tollway.core.dialects.base import Sent
from tollway.core.dialects.registry import read_request as read_any

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
