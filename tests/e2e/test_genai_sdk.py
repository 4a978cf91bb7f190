"""The official Google Gen AI SDK on models behind every upstream dialect."""

from __future__ import annotations

import base64
import json
import urllib.request

import pytest
from google import genai
from google.genai import errors, types
from tests.support.cells import PNG, SCHEMA, UPSTREAMS, model_for
from tests.support.gateway import fetch

BEHIND = pytest.mark.parametrize("behind", UPSTREAMS)
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather in a city",
            parameters_json_schema={
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        )
    ]
)
FORCED = types.ToolConfig(
    function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["get_weather"])
)


@pytest.fixture
def sdk(matrix):
    options = types.HttpOptions(base_url=matrix.url, retry_options=types.HttpRetryOptions(attempts=1))
    with genai.Client(api_key=matrix.key, http_options=options) as found:
        yield found


@BEHIND
def test_a_stream_says_what_the_whole_answer_says(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "contents": "Hello!"}
    whole = sdk.models.generate_content(**asked)
    chunks = list(sdk.models.generate_content_stream(**asked))
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert len(chunks) > 1
    last = chunks[-1]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    assert last.usage_metadata.candidates_token_count == whole.usage_metadata.candidates_token_count > 0
    assert {chunk.model_version for chunk in chunks} == {asked["model"]}


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_called_and_their_results_come_back(sdk, behind, stream):
    def ask(contents, **more):
        config = types.GenerateContentConfig(
            tools=[WEATHER], automatic_function_calling={"disable": True}, **more
        )
        asked = {"model": model_for(behind, "chat"), "contents": contents, "config": config}
        if not stream:
            return sdk.models.generate_content(**asked).candidates[0].content
        parts = []
        for chunk in sdk.models.generate_content_stream(**asked):
            for candidate in chunk.candidates or ():
                parts += (candidate.content and candidate.content.parts) or ()
        return types.Content(role="model", parts=parts)

    question = types.Content(role="user", parts=[types.Part(text="What is the weather in Hanoi?")])
    first = ask([question], tool_config=FORCED)
    call = next(part.function_call for part in first.parts if part.function_call)
    assert call.name == "get_weather"
    assert isinstance(call.args["city"], str)
    result = types.FunctionResponse(id=call.id, name=call.name, response={"result": "31 degrees, rain"})
    second = ask([question, first, types.Content(role="user", parts=[types.Part(function_response=result)])])
    assert any(part.text for part in second.parts)


@BEHIND
def test_thoughts_are_shown_when_asked_for(sdk, behind):
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
    )
    answer = sdk.models.generate_content(
        model=model_for(behind, "reasoning"), contents="Why is the sky blue?", config=config
    )
    parts = answer.candidates[0].content.parts
    assert any(part.text and not part.thought for part in parts)
    if behind != "openai_chat":
        assert any(part.thought for part in parts)


@BEHIND
def test_structured_output_is_what_the_schema_says(sdk, behind):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA)
    answer = sdk.models.generate_content(
        model=model_for(behind, "chat"), contents="Four days in Hanoi.", config=config
    )
    assert set(json.loads(answer.text)) == {"city", "days"}


@BEHIND
def test_an_image_is_seen(sdk, behind):
    image = types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")
    answer = sdk.models.generate_content(model=model_for(behind, "chat"), contents=[image, "What is this?"])
    assert "image" in answer.text


@BEHIND
def test_tokens_are_counted(sdk, behind):
    found = sdk.models.count_tokens(model=model_for(behind, "chat"), contents="Hello there!")
    assert 1 <= found.total_tokens < 100


@BEHIND
def test_a_stopped_answer_says_so(sdk, behind):
    config = types.GenerateContentConfig(max_output_tokens=5)
    answer = sdk.models.generate_content(
        model=model_for(behind, "tokens-50"), contents="Hello!", config=config
    )
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("model", "code"),
    [("nobody", 404), (model_for("gemini", "429"), 429), (model_for("anthropic", "500"), 502)],
)
def test_errors_carry_googles_words(sdk, model, code):
    with pytest.raises(errors.APIError) as caught:
        sdk.models.generate_content(model=model, contents="Hello!")
    assert caught.value.code == code
    assert caught.value.status in ("NOT_FOUND", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")


def test_the_list_of_models_is_googles_own(sdk):
    names = [model.name for model in sdk.models.list(config={"page_size": 7})]
    assert len(names) == len(set(names)) > 7
    assert all(name.startswith("models/") for name in names)
    assert sdk.models.get(model=names[0].removeprefix("models/")).name == names[0]


@pytest.mark.parametrize(
    "root", ["/v1beta", "/v1", "/v1alpha", "/api/v1beta", "/gemini/v1beta", "/gemini/v1"]
)
@pytest.mark.parametrize("query", ["", "?key={key}"])
def test_every_root_answers_with_the_key_in_a_header_or_in_the_query(matrix, root, query):
    headers = {"content-type": "application/json"}
    if not query:
        headers["x-goog-api-key"] = matrix.key
    path = f"{root}/models/{model_for('gemini', 'chat')}:generateContent{query.format(key=matrix.key)}"
    body = {"contents": [{"parts": [{"text": "Hello!"}]}], "generation_config": {"max_output_tokens": 100}}
    request = urllib.request.Request(matrix.url + path, data=json.dumps(body).encode(), headers=headers)
    status, _, answer = fetch(request)
    assert status == 200, answer
    assert answer["candidates"][0]["content"]["parts"][0]["text"]


@BEHIND
def test_a_stream_without_sse_is_one_json_array(matrix, behind):
    path = f"/v1beta/models/{model_for(behind, 'chat')}:streamGenerateContent"
    status, headers, answer = matrix.post({"contents": [{"parts": [{"text": "Hello!"}]}]}, path=path)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert len(answer) > 1
    assert answer[-1]["usageMetadata"]["cost"] > 0


@BEHIND
def test_a_broken_array_ends_with_an_error(matrix, behind):
    path = f"/v1beta/models/{model_for(behind, 'cut')}:streamGenerateContent"
    status, _, answer = matrix.post({"contents": [{"parts": [{"text": "Hello!"}]}]}, path=path)
    assert status == 200
    assert answer[-1]["error"]["code"] == 502
