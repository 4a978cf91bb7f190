"""The official Anthropic SDK, and a client of 2023, on models behind every upstream dialect."""

from __future__ import annotations

import json
import urllib.request

import anthropic
import pytest
from tests.support.cells import PNG, SCHEMA, UPSTREAMS, events_of, model_for
from tests.support.gateway import fetch

BEHIND = pytest.mark.parametrize("behind", UPSTREAMS)
HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def sdk(matrix):
    with anthropic.Anthropic(base_url=matrix.url, api_key=matrix.key, max_retries=0) as found:
        yield found


@BEHIND
def test_a_message_and_its_stream_say_the_same(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "max_tokens": 500, "messages": HELLO}
    whole = sdk.messages.create(**asked)
    with sdk.messages.stream(**asked) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == final.content[0].text == whole.content[0].text
    assert (final.model, final.stop_reason) == (asked["model"], "end_turn")
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    assert whole.usage.model_extra["cost"] > 0


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_and_their_results_come_back(sdk, behind, stream):
    asked = {"model": model_for(behind, "chat"), "max_tokens": 500, "tools": [WEATHER]}
    messages = [{"role": "user", "content": "What is the weather in Hanoi?"}]
    tool = {"type": "tool", "name": "get_weather"}

    def ask(messages, **more):
        if not stream:
            return sdk.messages.create(messages=messages, **asked, **more)
        with sdk.messages.stream(messages=messages, **asked, **more) as found:
            return found.get_final_message()

    first = ask(messages, tool_choice=tool)
    assert first.stop_reason == "tool_use"
    call = next(block for block in first.content if block.type == "tool_use")
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str)
    messages += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "31 degrees, rain"}],
        },
    ]
    second = ask(messages)
    assert second.stop_reason == "end_turn"
    assert any(block.type == "text" and block.text for block in second.content)


@BEHIND
def test_the_tool_runner_and_its_thread_send_the_whole_conversation(sdk, behind):
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"31 degrees in {city}"

    asked = {"model": model_for(behind, "chat"), "max_tokens": 500}
    runner = sdk.beta.messages.tool_runner(
        **asked, tools=[get_weather], messages=[{"role": "user", "content": "What is the weather?"}]
    )
    assert "31 degrees" in runner.until_done().content[-1].text

    thread = sdk.beta.messages.thread(**asked)
    counts = [thread.send({"role": "user", "content": "Hello!"}).usage.input_tokens for _ in range(3)]
    assert counts[0] < counts[1] < counts[2]


@BEHIND
def test_thought_is_shown_and_its_signature_is_taken_back(sdk, behind):
    asked = {
        "model": model_for(behind, "reasoning"),
        "max_tokens": 3000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    with sdk.messages.stream(messages=messages, **asked) as stream:
        first = stream.get_final_message()
    thought = next(block for block in first.content if block.type == "thinking")
    assert thought.thinking
    messages += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": "And at night?"},
    ]
    second = sdk.messages.create(messages=messages, **asked)
    assert any(block.type == "text" and block.text for block in second.content)


@BEHIND
def test_structured_output_is_what_the_schema_says(sdk, behind):
    answer = sdk.messages.create(
        model=model_for(behind, "chat"),
        max_tokens=500,
        messages=[{"role": "user", "content": "Four days in Hanoi."}],
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    found = json.loads(answer.content[0].text)
    assert set(found) == {"city", "days"}
    assert answer.stop_reason == "end_turn"


@BEHIND
def test_an_image_is_seen(sdk, behind):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    answer = sdk.messages.create(
        model=model_for(behind, "chat"),
        max_tokens=500,
        messages=[{"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}],
    )
    assert "image" in answer.content[0].text


@BEHIND
def test_tokens_are_counted_free_of_charge(sdk, matrix, behind):
    before = matrix.cli("credits", "balance")["available"]
    found = sdk.messages.count_tokens(model=model_for(behind, "chat"), messages=HELLO, tools=[WEATHER])
    assert 1 < found.input_tokens < 500
    assert matrix.cli("credits", "balance")["available"] == before


@BEHIND
def test_a_refusal_is_a_refusal(sdk, behind):
    answer = sdk.messages.create(model=model_for(behind, "refusal"), max_tokens=500, messages=HELLO)
    assert answer.stop_reason == "refusal" or answer.content
    assert answer.usage.input_tokens > 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError),
        ({"max_tokens": -1}, anthropic.BadRequestError),
        ({"messages": []}, anthropic.BadRequestError),
        ({"model": "anthropic/429"}, anthropic.RateLimitError),
        ({"model": "openai_chat/500"}, anthropic.InternalServerError),
    ],
)
def test_errors_are_the_classes_the_sdk_knows(sdk, change, error):
    asked = {"model": model_for("gemini", "chat"), "max_tokens": 500, "messages": HELLO, **change}
    with pytest.raises(error) as caught:
        sdk.messages.create(**asked)
    assert caught.value.request_id.startswith("req_")
    assert caught.value.body["type"] == "error"


def test_a_wrong_key_is_an_authentication_error(matrix):
    with (
        anthropic.Anthropic(base_url=matrix.url, api_key="sk-tw-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model=model_for("anthropic", "chat"), max_tokens=5, messages=HELLO)


def test_the_list_of_models_is_anthropics_own(sdk):
    page = sdk.models.list(limit=5)
    assert len(page.data) == 5
    assert page.has_more
    everything = [model.id for model in sdk.models.list(limit=7)]
    assert len(everything) == len(set(everything)) > 7
    assert sdk.models.retrieve(everything[0]).type == "model"


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_2023_is_served(matrix, behind, stream):
    body = {
        "model": model_for(behind, "chat"),
        "max_tokens": 500,
        "temperature": 0.5,
        "messages": HELLO,
        "stream": stream,
    }
    request = urllib.request.Request(
        matrix.url + "/v1/messages",
        data=json.dumps(body).encode(),
        headers={
            "x-api-key": matrix.key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        },
    )
    status, headers, answer = fetch(request)
    assert status == 200, answer
    if stream:
        kinds = [event["type"] for event in events_of(answer) if event["type"] != "ping"]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
    else:
        assert answer["content"][0]["text"]
    assert headers["x-request-id"]
