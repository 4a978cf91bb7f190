"""Whatever a body holds in whatever place, it is answered or refused: no junk brings a mouth down."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.upstream.sandbox import test_anthropic, test_chat_answers, test_gemini, test_responses
from tests.upstream.sandbox.dialects import CITY

from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.service import Service
from tollway.upstream.sandbox.steps import Data, Head

JUNK = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        "",
        "x",
        "\ud800",
        [],
        [None],
        [[]],
        {},
        {"type": "text"},
        {"x": {"y": []}},
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "content",
        "role",
        "text",
        "name",
        "id",
        "input",
        "source",
        "parts",
        "call_id",
        "output",
        "items",
    ]
)

ANTHROPIC = test_anthropic.body(
    test_anthropic.HI,
    test_anthropic.assistant(test_anthropic.text("x"), test_anthropic.USE),
    test_anthropic.user({**test_anthropic.RESULT, "content": [test_anthropic.text("rain")]}, {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "citations": {"enabled": True}}),
    system=[test_anthropic.text("x", cache_control={"type": "ephemeral", "ttl": "5m"})],
    tools=[test_anthropic.TOOL, {"type": "web_search_20260318", "name": "web_search"}],
    tool_choice={"type": "auto"},
    thinking={"type": "adaptive", "display": "omitted"},
    output_config={"effort": "low", "format": {"type": "json_schema", "schema": CITY}},
    stop_sequences=["zzz"],
    stream=True,
)  # fmt: skip
RESPONSES = test_responses.body(
    {"role": "developer", "content": "x"},
    test_responses.message({"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:image/png;base64,QUJD"}, {"type": "input_file", "file_data": "QUJD", "filename": "f"}),
    test_responses.CALL,
    {**test_responses.OUTPUT, "output": [{"type": "input_text", "text": "rain"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"},
    tools=[test_responses.TOOL, {"type": "namespace", "name": "n", "tools": [test_responses.TOOL]}, {"type": "custom", "name": "c"}],
    tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_weather"}]},
    text={"format": {"type": "json_schema", "name": "p", "schema": CITY}, "verbosity": "low"},
    reasoning={"effort": "low", "summary": "auto"},
    include=["reasoning.encrypted_content"],
    stream=True,
)  # fmt: skip
GEMINI = test_gemini.body(
    test_gemini.user({"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}, {"fileData": {"fileUri": "gs://x", "mimeType": "audio/wav"}}),
    test_gemini.model({**test_gemini.CALL, **test_gemini.SKIP}),
    test_gemini.user({"functionResponse": {**test_gemini.ANSWER["functionResponse"], "parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}}),
    systemInstruction={"parts": [{"text": "x"}]},
    tools=[test_gemini.TOOL],
    toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}},
    generationConfig={"maxOutputTokens": 50, "stopSequences": ["z"], "candidateCount": 2, "seed": 1, "responseMimeType": "application/json", "responseSchema": test_gemini.OPEN, "responseLogprobs": True, "logprobs": 2, "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 100}},
)  # fmt: skip
BATCH = {
    "requests": [
        {"model": "models/sandbox-embed", "content": {"parts": [{"text": "x"}]}, "outputDimensionality": 8}
    ]
}
CHAT = {
    "model": "sandbox-agent",
    "messages": [{"role": "user", "content": 'In a replace "b" with "c"'}],
    "tools": [test_chat_answers.WEATHER],
    "stream": True,
}
PLACES = {
    "chat": (CHAT, "/v1/chat/completions"),
    "anthropic": (ANTHROPIC, "/v1/messages"),
    "anthropic count": (ANTHROPIC, "/v1/messages/count_tokens"),
    "responses": (RESPONSES, "/v1/responses"),
    "gemini": (GEMINI, "/v1/models/sandbox-reasoning:generateContent"),
    "gemini agent": (GEMINI, "/v1/models/sandbox-agent:streamGenerateContent?alt=sse"),
    "gemini count": ({"generateContentRequest": GEMINI}, "/v1/models/sandbox-chat:countTokens"),
    "gemini batch": (BATCH, "/v1/models/sandbox-embed:batchEmbedContents"),
    "embeddings": ({"model": "sandbox-embed", "input": ["x", "y"], "dimensions": 4}, "/v1/embeddings"),
    "completions": (
        {"model": "sandbox-chat", "prompt": ["x"], "stream": True, "echo": True},
        "/v1/completions",
    ),
}


def places(value, path=()):
    """Every place in a JSON value."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def spoilt(body, draw):
    body = json.loads(json.dumps(body))
    for _ in range(draw(st.integers(0, 2))):
        found = [path for path in places(body) if path]
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        target = body
        for key in way:
            target = target[key]
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del target[last]
        elif how == "add" and isinstance(target[last], dict):
            target[last][draw(KEYS)] = copy.deepcopy(draw(JUNK))
        else:
            target[last] = copy.deepcopy(draw(JUNK))
    return body


@pytest.mark.parametrize(("body", "target"), PLACES.values(), ids=PLACES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_junk_is_answered_or_refused(body, target, data):
    service = Service(None, inspect=True)
    spelt = json.dumps(spoilt(body, data.draw)).encode()
    headers = {"anthropic-version": data.draw(st.sampled_from(["2023-06-01", "2026-10-21"]))}
    request = Request(method="POST", target=target, headers=headers, body=spelt)
    record = service.receive(request)
    steps = list(service.respond(request, record))
    assert isinstance(steps[0], Head) and steps[0].status in (200, 400, 403, 404)
    assert all(isinstance(step, Data) for step in steps[1:])
