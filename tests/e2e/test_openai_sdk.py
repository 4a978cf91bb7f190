"""The official OpenAI SDK, unmodified, against a running gateway."""

import base64
import zlib

import openai
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(params=["/v1", "/api/v1", "/openai/v1"])
def client(gateway, request):
    with openai.OpenAI(base_url=gateway.url + request.param, api_key=gateway.key, max_retries=0) as found:
        yield found


@pytest.fixture
def sdk(gateway):
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=gateway.key, max_retries=0) as found:
        yield found


def test_chats_and_sees_its_cost(client):
    answer = client.chat.completions.create(model="sandbox-chat", messages=HELLO)
    assert answer.model == "sandbox-chat"
    assert answer.choices[0].message.content
    assert answer.usage.cost > 0


def test_streams_and_sees_its_cost_in_the_last_chunk(client):
    with client.chat.completions.create(
        model="sandbox-chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert {chunk.model for chunk in chunks} == {"sandbox-chat"}
    assert chunks[-1].usage.cost > 0
    assert chunks[-1].choices == []


def test_a_stream_nobody_asked_usage_of_has_none(sdk):
    with sdk.chat.completions.create(model="sandbox-chat", messages=HELLO, stream=True) as stream:
        assert all(chunk.usage is None and chunk.choices for chunk in stream)


def test_a_streamed_and_a_whole_answer_are_the_same_and_cost_the_same(sdk):
    whole = sdk.chat.completions.create(model="sandbox-chat", messages=HELLO)
    with sdk.chat.completions.create(
        model="sandbox-chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.cost == whole.usage.cost


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def test_calls_tools_and_takes_their_results(sdk):
    asked = [{"role": "user", "content": "Use get_weather for Hanoi"}]
    first = sdk.chat.completions.create(
        model="sandbox-chat", messages=asked, tools=TOOLS, tool_choice="required"
    )
    (call,) = first.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    second = sdk.chat.completions.create(
        model="sandbox-chat",
        messages=[
            *asked,
            first.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "31 degrees"},
        ],
        tools=TOOLS,
    )
    assert "31 degrees" in second.choices[0].message.content


def test_streams_tool_calls_through_the_helper(sdk):
    with sdk.chat.completions.stream(
        model="sandbox-chat",
        messages=[{"role": "user", "content": "get_weather please"}],
        tools=TOOLS,
        tool_choice="required",
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


class City(BaseModel):
    name: str
    population: int


def test_parses_structured_output(sdk):
    answer = sdk.chat.completions.parse(model="sandbox-chat", messages=HELLO, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_sends_images(sdk):
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n" + zlib.compress(b"\0" * 20)).decode()
    answer = sdk.chat.completions.create(
        model="sandbox-chat",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
                ],
            }
        ],
    )
    assert "image" in answer.choices[0].message.content


async def test_the_async_client_works_too(gateway):
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=gateway.key) as client:
        answer = await client.chat.completions.create(model="sandbox-chat", messages=HELLO)
        assert answer.usage.cost > 0


def test_lists_the_models_the_key_may_call_with_their_prices(gateway, sdk):
    listed = {model.id: model for model in sdk.models.list()}
    assert "sandbox-chat" in listed
    assert listed["sandbox-chat"].pricing["rates"]["input"]["per"] == "1000000 input tokens"
    assert sdk.models.retrieve("sandbox-chat").id == "sandbox-chat"
    narrow = gateway.new_key("narrow", "--model", "sandbox-e*")
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=narrow) as client:
        names = [model.id for model in client.models.list()]
        assert "sandbox-echo" in names
        assert "sandbox-chat" not in names
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="sandbox-chat", messages=HELLO)


def call(gateway, model="sandbox-chat", key=None, **more):
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=key or gateway.key, max_retries=0) as client:
        return client.chat.completions.create(model=model, messages=HELLO, **more)


ERRORS = {
    "400": (openai.BadRequestError, {"temperature": 9}),
    "404": (openai.NotFoundError, {"model": "sandbox-nothing"}),
    "502": (openai.InternalServerError, {"model": "sandbox-500"}),
    "upstream 400": (openai.BadRequestError, {"model": "sandbox-400"}),
}


@pytest.mark.parametrize(("kind", "more"), ERRORS.values(), ids=ERRORS)
def test_each_status_raises_the_class_of_its_own(gateway, kind, more):
    with pytest.raises(kind) as caught:
        call(gateway, **more)
    assert caught.value.request_id == caught.value.body["request_id"]
    assert caught.value.body["code"]


def test_401_402_403_and_429_raise_classes_of_their_own(gateway):
    with pytest.raises(openai.AuthenticationError):
        call(gateway, key="sk-tw-wrong")
    disabled = gateway.new_key("disabled")
    call(gateway, key=disabled)
    gateway.cli("key", "disable", "disabled")
    with pytest.raises(openai.PermissionDeniedError):
        call(gateway, key=disabled)
    limited = gateway.new_key("limited", "--rpm", "1")
    call(gateway, key=limited)
    with pytest.raises(openai.RateLimitError) as caught:
        call(gateway, key=limited)
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert "1/1" in caught.value.message
    poor = gateway.new_key("poor", "--budget", "0.000001")
    with pytest.raises(openai.APIStatusError) as caught:
        call(gateway, key=poor, max_tokens=1000)
    assert caught.value.status_code == 402
    assert caught.value.body["code"] == "key_budget_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_stream_that_breaks_off_raises_and_never_looks_complete(sdk):
    for model in ("sandbox-cut", "sandbox-midstream-error", "sandbox-bad-json", "sandbox-cut-clean"):
        with (
            pytest.raises(openai.APIError),
            sdk.chat.completions.create(model=model, messages=HELLO, stream=True) as stream,
        ):
            list(stream)
