"""What frameworks ask for without their users seeing it: every client dialect that can say it, every upstream."""

from __future__ import annotations

import json

import pytest
from tests.support.cells import UPSTREAMS, ask, model_for, text_of

JSON_MODES = {
    "openai_chat": {"response_format": {"type": "json_object"}},
    "openai_responses": {"text": {"format": {"type": "json_object"}}},
    "gemini": {"generationConfig": {"responseMimeType": "application/json"}},
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("get_weather", "final_result")
]


@pytest.mark.parametrize("behind", UPSTREAMS)
@pytest.mark.parametrize("client", JSON_MODES)
def test_json_mode_gives_an_object_whatever_answers(matrix, client, behind):
    status, _, answer = ask(matrix, client, behind, "chat", **JSON_MODES[client])
    assert status == 200, answer
    assert type(json.loads(text_of(client, answer))) is dict


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_an_agent_that_ends_by_calling_a_tool_comes_to_its_end(matrix, behind):
    """As LangChain, pydantic-ai and smolagents do for structured output: some tool is always forced."""
    messages = [{"role": "user", "content": "What is the weather?"}]
    called = []
    for _ in TOOLS:
        body = {"model": model_for(behind, "chat"), "messages": messages, "tools": TOOLS}
        status, _, answer = matrix.post({**body, "tool_choice": "required"})
        assert status == 200, answer
        message = answer["choices"][0]["message"]
        (call,) = message["tool_calls"]
        called.append(call["function"]["name"])
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    assert called == ["get_weather", "final_result"]


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_gemini_words_given_as_numbers_reach_every_upstream(matrix, behind):
    """google-generativeai over REST."""
    tool = {"name": "get_weather", "parameters": {"type": 6, "properties": {"city": {"type": 1}}}}
    status, _, answer = ask(
        matrix,
        "gemini",
        behind,
        "chat",
        tools=[{"functionDeclarations": [tool]}],
        toolConfig={"functionCallingConfig": {"mode": 2}},
    )
    assert status == 200, answer
    parts = answer["candidates"][0]["content"]["parts"]
    assert [part["functionCall"]["args"] for part in parts] == [{"city": "sample city"}]


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_a_whole_answer_has_all_that_strict_clients_demand(matrix, behind):
    """OpenRouter's own SDK reads no answer without `system_fingerprint`, which may be null."""
    answer = ask(matrix, "openai_chat", behind, "chat")[2]
    assert {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"} <= answer.keys()


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_a_model_added_without_its_limit_answers(matrix, upstream, behind):
    """Where a limit must be given and nobody gave one, what is asked for is not refused."""
    name = f"added-{behind}"
    matrix.cli("model", "add", name, "--input-price", "1", "--output-price", "1")
    root = "/v1beta" if behind == "gemini" else "/v1"
    matrix.cli(
        *("channel", "add", "--name", name, "--dialect", behind, "--base-url", upstream.url + root),
        *("--secret-env", "UP_KEY", "--model", f"{name}=sandbox-chat"),
        UP_KEY="sk-upstream-canary-0123456789",
    )
    assert matrix.chat(name)[0] == 200
