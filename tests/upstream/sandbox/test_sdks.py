"""The official SDKs of all dialects talk to the sandbox directly, and validate strictly what it says.

OpenAI's Chat Completions have `test_openai_sdk.py`.
"""

import json

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

KEY = "any key"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = "What is the weather?"


class Place(BaseModel):
    city: str
    rivers: list[str]


def strictly(model):
    """The same value, validated as it came: SDKs themselves build their types without looking."""
    return type(model).model_validate(model.model_dump(by_alias=True, exclude_unset=True, mode="json"))


@pytest.fixture(params=["2026-10-21", "2023-06-01"], scope="module")
def claude(server, request):
    headers = {"anthropic-version": request.param}
    url = f"http://127.0.0.1:{server.port}"
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, default_headers=headers) as client:
        yield client


def hello(text="Hello"):
    return [{"role": "user", "content": text}]


TOOL = {"name": "get_weather", "input_schema": CITY}


def test_messages(claude):
    fields = {"model": "sandbox-chat", "max_tokens": 100, "messages": hello()}
    for event in claude.messages.create(**fields, stream=True):
        strictly(event)
    answer = strictly(claude.messages.create(**fields))
    assert answer.content[0].text.startswith('You said: "Hello".') and answer.stop_reason == "end_turn"
    assert (
        claude.messages.count_tokens(model="sandbox-chat", messages=hello()).input_tokens
        == answer.usage.input_tokens
    )


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}])
def test_messages_with_thinking_and_tools(claude, thinking):
    fields = {"model": "sandbox-reasoning", "max_tokens": 2000, "thinking": thinking, "tools": [TOOL]}
    messages = hello(QUESTION)
    with claude.messages.stream(messages=messages, **fields) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_message()
    assert {"thinking", "signature", "input_json", "message_stop"} <= set(kinds)
    thought, use = answer.content
    assert thought.signature and use.input == {"city": "sample city"}
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    last = claude.messages.create(messages=messages, **fields)
    assert last.content[-1].text == "get_weather returned: rain"


def test_messages_parse(claude):
    answer = claude.messages.parse(
        model="sandbox-chat", max_tokens=100, messages=hello(), output_format=Place
    )
    assert answer.parsed_output.city == "sample city"


def test_messages_models(claude):
    assert "sandbox-chat" in [model.id for model in claude.models.list()]
    assert strictly(claude.models.retrieve("sandbox-chat")).type == "model"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sandbox-400", anthropic.BadRequestError),
        ("sandbox-401", anthropic.AuthenticationError),
        ("sandbox-403", anthropic.PermissionDeniedError),
        ("sandbox-404", anthropic.NotFoundError),
        ("sandbox-413", anthropic.RequestTooLargeError),
        ("sandbox-429", anthropic.RateLimitError),
        ("sandbox-500", anthropic.InternalServerError),
        ("sandbox-503", anthropic.OverloadedError),
        ("sandbox-quota", anthropic.APIStatusError),
    ],
)
def test_messages_errors(claude, model, error):
    with pytest.raises(error):
        claude.messages.create(model=model, max_tokens=10, messages=hello())


def test_messages_errors_in_a_stream(claude):
    with pytest.raises(anthropic.APIStatusError, match="The server had an error"):
        list(
            claude.messages.create(
                model="sandbox-midstream-error", max_tokens=10, messages=hello(), stream=True
            )
        )


@pytest.fixture(scope="module")
def gpt(server):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    "model", ["sandbox-chat", "sandbox-reasoning", "sandbox-refusal", "sandbox-citation"]
)
def test_responses(gpt, model):
    answer = strictly(gpt.responses.create(model=model, input="Hello", reasoning={"summary": "auto"}))
    assert answer.status == "completed" and answer.usage.total_tokens > answer.usage.input_tokens == 5
    for event in gpt.responses.create(model=model, input="Hello", reasoning={"summary": "auto"}, stream=True):
        strictly(event)
    with gpt.responses.stream(model=model, input="Hello", reasoning={"summary": "auto"}) as stream:
        streamed = stream.get_final_response()
    assert streamed.output_text == answer.output_text and streamed.usage == answer.usage


def test_responses_with_reasoning_and_tools(gpt):
    tools = [openai.pydantic_function_tool(Place, name="get_weather")]
    flat = [{"type": "function", **tool["function"]} for tool in tools]
    fields = {
        "model": "sandbox-reasoning",
        "tools": flat,
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }
    items = [*hello(QUESTION)]
    answer = strictly(gpt.responses.create(input=items, **fields))
    reasoning, call = answer.output
    assert reasoning.encrypted_content and json.loads(call.arguments)["city"] == "sample city"
    items += [*answer.output, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    assert gpt.responses.create(input=items, **fields).output_text == "get_weather returned: rain"


def test_responses_parse(gpt):
    assert (
        gpt.responses.parse(model="sandbox-chat", input="x", text_format=Place).output_parsed.city
        == "sample city"
    )


def test_responses_input_tokens(gpt):
    assert gpt.responses.input_tokens.count(model="sandbox-chat", input="Hello").input_tokens == 5


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sandbox-401", openai.AuthenticationError),
        ("sandbox-404", openai.BadRequestError),
        ("sandbox-429", openai.RateLimitError),
        ("sandbox-quota", openai.RateLimitError),
        ("sandbox-500", openai.InternalServerError),
    ],
)
def test_responses_errors(gpt, model, error):
    with pytest.raises(error):
        gpt.responses.create(model=model, input="x")


@pytest.mark.parametrize("model", ["sandbox-first-error", "sandbox-midstream-error", "sandbox-first-quota"])
def test_responses_errors_in_a_stream(gpt, model):
    with pytest.raises(openai.APIError):
        list(gpt.responses.create(model=model, input="x", stream=True))


def test_embeddings(gpt):
    one, two = strictly(gpt.embeddings.create(model="sandbox-embed", input=["red apple", "green sea"])).data
    near = (
        gpt.embeddings.create(model="sandbox-embed", input="apple", encoding_format="float").data[0].embedding
    )
    assert len(near) == 256 and _dot(near, one.embedding) > 0.4 > _dot(near, two.embedding)
    assert abs(_dot(near, near) - 1) < 1e-5


def _dot(one, two):
    return sum(a * b for a, b in zip(one, two, strict=True))


def test_legacy_completions(gpt):
    answer = strictly(
        gpt.completions.create(model="sandbox-echo", prompt="one two three", max_tokens=9, echo=True)
    )
    assert answer.choices[0].text == "one two three" * 2 and answer.choices[0].finish_reason == "stop"
    chunks = list(
        gpt.completions.create(
            model="sandbox-echo", prompt="one two three", stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "one two three"
    assert chunks[-1].usage == answer.usage
    cut = gpt.completions.create(model="sandbox-long", prompt="x")
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 16)


@pytest.fixture(params=["v1", "v1beta"], scope="module")
def gemini(server, request):
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{server.port}", api_version=request.param)
    client = genai.Client(api_key=KEY, http_options=options)
    yield client
    client.close()


WEATHER = types.FunctionDeclaration(
    name="get_weather",
    parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}),
)


def test_generate_content(gemini):
    answer = gemini.models.generate_content(model="sandbox-chat", contents="Hello")
    assert answer.text.startswith('You said: "Hello".') and answer.usage_metadata.prompt_token_count == 5
    chunks = list(gemini.models.generate_content_stream(model="sandbox-chat", contents="Hello"))
    assert "".join(chunk.text or "" for chunk in chunks) == answer.text
    assert chunks[-1].usage_metadata == answer.usage_metadata


@pytest.mark.parametrize("streamed", [False, True])
def test_chats_with_thoughts_and_functions(gemini, streamed):
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[WEATHER])],
        thinking_config=types.ThinkingConfig(include_thoughts=True),
    )
    chat = gemini.chats.create(model="sandbox-reasoning", config=config)

    def send(message):
        found = list(chat.send_message_stream(message)) if streamed else [chat.send_message(message)]
        return [part for one in found for part in one.candidates[0].content.parts]

    [call] = [part for part in send(QUESTION) if part.function_call]
    assert call.thought_signature and call.function_call.args == {"city": "sample city"}
    said = send(types.Part.from_function_response(name="get_weather", response={"result": "rain"}))
    assert "".join(part.text or "" for part in said if not part.thought) == "get_weather returned: rain"


@pytest.mark.parametrize(
    "schema", [{"response_schema": Place}, {"response_json_schema": Place.model_json_schema()}]
)
def test_generate_content_parses(gemini, schema):
    config = types.GenerateContentConfig(response_mime_type="application/json", **schema)
    answer = gemini.models.generate_content(model="sandbox-chat", contents="x", config=config)
    assert Place.model_validate_json(answer.text).city == "sample city"


def test_gemini_counts_embeds_and_lists(gemini):
    assert gemini.models.count_tokens(model="sandbox-chat", contents="Hello").total_tokens == 5
    config = types.EmbedContentConfig(output_dimensionality=8)
    found = gemini.models.embed_content(model="sandbox-embed", contents=["a", "b"], config=config).embeddings
    assert [len(one.values) for one in found] == [8, 8] and found[0] != found[1]
    assert "models/sandbox-chat" in [model.name for model in gemini.models.list()]
    assert gemini.models.get(model="sandbox-embed").supported_actions == ["embedContent"]


@pytest.mark.parametrize(
    ("model", "code"), [("sandbox-401", 400), ("sandbox-429", 429), ("sandbox-503", 503)]
)
def test_gemini_errors(gemini, model, code):
    with pytest.raises(errors.APIError) as raised:
        gemini.models.generate_content(model=model, contents="x")
    assert raised.value.code == code
    with pytest.raises(errors.APIError):
        list(gemini.models.generate_content_stream(model=model, contents="x"))


@pytest.mark.parametrize("model", ["sandbox-first-error", "sandbox-midstream-error"])
def test_gemini_errors_in_a_stream(gemini, model):
    with pytest.raises(errors.ServerError, match="The server had an error"):
        list(gemini.models.generate_content_stream(model=model, contents="x"))
