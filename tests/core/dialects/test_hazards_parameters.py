"""Hazards of requests, each by the number it has in our list: schemas and parameters."""

from __future__ import annotations

import json

import pytest
from tests.support.chat_bodies import chat, losses, user
from tests.support.dialects import (
    NAMES,
    translated,
)

from tollway.core.dialects.gemini.schema import from_gemini, to_gemini
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError

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


@pytest.mark.parametrize(
    ("system", "said", "target", "told"),
    [
        ("", "x", "openai_chat", True),
        ("", "x as Json", "openai_chat", False),
        ("Answer in JSON.", "x", "openai_chat", False),
        ("", "x", "openai_responses", True),
        ("", "x as Json", "openai_responses", False),
        ("Answer in JSON.", "x", "openai_responses", True),
    ],
)
def test_json_mode_is_asked_for_in_words_too_where_openai_demands_the_word(system, said, target, told):
    body = {
        "model": "m",
        "contents": [{"role": "user", "parts": [{"text": said}]}],
        "generationConfig": {"responseMimeType": "application/json"},
        **({"systemInstruction": {"parts": [{"text": system}]}} if system else {}),
    }
    sent = translated("gemini", target, body).body
    first = (sent["messages"] if target == "openai_chat" else sent["input"])[0]
    assert ("one JSON object" in json.dumps(first)) is told
    assert (sent.get("response_format") or sent["text"]["format"])["type"] == "json_object"


NUMBERED = {
    "contents": [{"parts": [{"text": "x"}]}],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "parameters": {"type": 6, "properties": {"n": {"type": 5, "items": {"type": 1}}}},
                }
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": 2}},
    "generationConfig": {
        "responseMimeType": "application/json",
        "responseSchema": {"type": 3},
        "responseModalities": [1],
    },
}


def test_gemini_words_may_be_numbers():
    """Clients made from the protocol's definition, such as google-generativeai over REST, send them so."""
    request = DIALECTS["gemini"].read_request({"model": "m", **NUMBERED})
    assert request.tools[0].schema == {
        "type": "object",
        "properties": {"n": {"type": "array", "items": {"type": "string"}}},
    }
    assert request.tool_choice.mode == "required"
    assert request.output.schema == {"type": "integer"}
    assert request.modalities == ("text",)


@pytest.mark.parametrize("config", [{"mode": 9}, {"mode": True}])
def test_gemini_words_are_no_other_numbers(config):
    body = {**NUMBERED, "model": "m", "toolConfig": {"functionCallingConfig": config}}
    with pytest.raises(GatewayError):
        DIALECTS["gemini"].read_request(body)


def test_a_word_out_of_a_list_stays_a_word_on_its_way_home():
    body = {
        "model": "m",
        "contents": [{"parts": [{"text": "x"}]}],
        "generationConfig": {
            "responseMimeType": "text/x.enum",
            "responseSchema": {"type": "STRING", "enum": ["a", "b"]},
        },
    }
    config = translated("gemini", "gemini", body).body["generationConfig"]
    assert config == body["generationConfig"]


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
