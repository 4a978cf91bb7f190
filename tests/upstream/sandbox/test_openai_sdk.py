"""OpenAI's own SDK talks to the sandbox directly: what it cannot read, no gateway should have to."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

KEY = "any key"
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip


@pytest.fixture
def client(sandbox):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{sandbox.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(model="sandbox-chat", messages=HELLO)
    assert answer.choices[0].message.content.startswith('You said: "Hello".')
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_stream_with_usage(client):
    stream = client.chat.completions.create(
        model="sandbox-long", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == 2000
    assert chunks[-1].usage.completion_tokens == 2000


def test_reasoning(client):
    answer = client.chat.completions.create(model="sandbox-reasoning", messages=HELLO, reasoning_effort="low")
    assert answer.choices[0].message.reasoning_content
    assert answer.usage.completion_tokens_details.reasoning_tokens == 16


@pytest.mark.parametrize("model", ["sandbox-chat", "sandbox-reasoning"])
def test_streamed_tool_calls_and_their_results(client, model):
    messages = [{"role": "user", "content": "What is the weather?"}]
    with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "sample city"}
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "get_weather returned: rain"


class Address(BaseModel):
    street: str
    number: int


class Person(BaseModel):
    name: str
    addresses: list[Address]
    friend: "Person | None"


def test_parse(client):
    answer = client.chat.completions.parse(model="sandbox-chat", messages=HELLO, response_format=Person)
    person = answer.choices[0].message.parsed
    assert person.name == "sample name" and person.addresses[0].number == 1


def test_refusal(client):
    assert client.chat.completions.create(model="sandbox-refusal", messages=HELLO).choices[0].message.refusal


def test_models(client):
    assert client.models.retrieve("sandbox-chat").owned_by == "tollway-sandbox"
    assert "sandbox-chat" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sandbox-400", openai.BadRequestError),
        ("sandbox-401", openai.AuthenticationError),
        ("sandbox-403", openai.PermissionDeniedError),
        ("sandbox-404", openai.NotFoundError),
        ("sandbox-429", openai.RateLimitError),
        ("sandbox-500", openai.InternalServerError),
    ],
)
def test_errors_are_the_sdks_own(client, model, error):
    with pytest.raises(error):
        client.chat.completions.create(model=model, messages=HELLO)


def test_an_in_band_error_is_raised(client):
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(client.chat.completions.create(model="sandbox-midstream-error", messages=HELLO, stream=True))


async def test_async_calls_do_not_mix(sandbox):
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{sandbox.port}/v1", api_key=KEY) as client:

        async def echo(number, streamed):
            messages = [{"role": "user", "content": f"number {number}"}]
            answer = await client.chat.completions.create(
                model="sandbox-echo", messages=messages, stream=streamed
            )
            if not streamed:
                return answer.choices[0].message.content
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

        said = await asyncio.gather(*(echo(n, n % 2 == 0) for n in range(40)))
        assert said == [f"number {n}" for n in range(40)]
