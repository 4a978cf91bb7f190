"""Chat Completions by the official OpenAI SDK on models behind every upstream dialect.

`_strict_response_validation` has the SDK's own types check every member of what it is sent.
"""

from __future__ import annotations

import json

import openai
import pytest
from tests.support.cells import PNG, UPSTREAMS, model_for
from tests.support.openai_sdk import BOTH, HELLO, TOOLS, Trip

BEHIND = pytest.mark.parametrize("behind", UPSTREAMS)


def chat_text(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


# Chat Completions


@BEHIND
def test_chat_whole_and_streamed_say_the_same(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO}
    whole = sdk.chat.completions.create(**asked)
    with sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert chat_text(chunks) == whole.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {whole.model} == {asked["model"]}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        "stop"
    ]
    assert chunks[-1].usage.model_extra["cost"] == whole.usage.model_extra["cost"] > 0


@BEHIND
async def test_the_async_client_chats_and_streams(async_sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO}
    whole = await async_sdk.chat.completions.create(**asked)
    chunks = [chunk async for chunk in await async_sdk.chat.completions.create(**asked, stream=True)]
    assert chat_text(chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)
    first = await async_sdk.responses.create(model=asked["model"], input="Hello!")
    async with async_sdk.responses.stream(model=asked["model"], input="Hello!") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text == first.output_text


@BEHIND
def test_the_chat_stream_helper_folds_to_the_whole_answer(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO}
    whole = sdk.chat.completions.create(**asked)
    with sdk.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


@BEHIND
def test_chat_parses_a_schema_whole_and_streamed(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO, "response_format": Trip}
    whole = sdk.chat.completions.parse(**asked)
    assert isinstance(whole.choices[0].message.parsed, Trip)
    with sdk.chat.completions.stream(**asked) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == whole.choices[0].message.parsed
    assert whole.choices[0].finish_reason == "stop"


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_chat_calls_tools_in_parallel_and_takes_their_results(sdk, behind, stream):
    asked = {"model": model_for(behind, "chat"), "tools": TOOLS}
    messages = [{"role": "user", "content": BOTH}]

    def ask(messages):
        if not stream:
            return sdk.chat.completions.create(messages=messages, **asked).choices[0]
        with sdk.chat.completions.stream(messages=messages, **asked) as found:
            return found.get_final_completion().choices[0]

    first = ask(messages)
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.id for call in calls}) == 2
    assert all(set(json.loads(call.function.arguments)) == {"city"} for call in calls)
    messages.append(first.message.model_dump(exclude_none=True))
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} says 31"}
        for call in reversed(calls)
    ]
    second = ask(messages)
    assert second.finish_reason == "stop"
    assert "get_weather says 31" in second.message.content
    assert "get_time says 31" in second.message.content


@BEHIND
def test_chat_makes_one_call_at_a_time_where_that_is_asked(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": [{"role": "user", "content": BOTH}]}
    if behind == "gemini":
        # Gemini has no such wish: it is told that it was dropped, not refused.
        raw = sdk.chat.completions.with_raw_response.create(**asked, tools=TOOLS, parallel_tool_calls=False)
        assert "parallel" in raw.headers["x-tollway-dropped"]
        return
    answer = sdk.chat.completions.create(**asked, tools=TOOLS, parallel_tool_calls=False)
    assert len(answer.choices[0].message.tool_calls) == 1


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_chat_counts_the_tokens_of_thought(sdk, behind, stream):
    asked = {"model": model_for(behind, "reasoning"), "messages": HELLO, "reasoning_effort": "medium"}
    if stream:
        with sdk.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ) as found:
            usage = list(found)[-1].usage
    else:
        usage = sdk.chat.completions.create(**asked).usage
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


@BEHIND
def test_chat_sees_an_image(sdk, behind):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    answer = sdk.chat.completions.create(
        model=model_for(behind, "chat"),
        messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}],
    )
    assert "1 image (PNG, 1x1)" in answer.choices[0].message.content


@BEHIND
def test_h16_several_choices_are_all_there_or_refused_by_name(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO, "n": 3}
    if behind == "openai_chat":
        answer = sdk.chat.completions.create(**asked)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert all(choice.message.content for choice in answer.choices)
        return
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(**asked)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "n")


@BEHIND
def test_h41_logprobs_are_there_or_refused_by_name(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "messages": HELLO, "logprobs": True, "top_logprobs": 2}
    if behind == "anthropic":
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(**asked)
        assert caught.value.code == "unsupported_parameter"
        assert "logprobs" in caught.value.param
        return
    choice = sdk.chat.completions.create(**asked).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 0 and token.top_logprobs for token in tokens)


@BEHIND
def test_a_refusal_is_told_and_paid(sdk, behind):
    answer = sdk.chat.completions.create(model=model_for(behind, "refusal"), messages=HELLO)
    choice = answer.choices[0]
    assert choice.message.refusal or choice.finish_reason == "content_filter"
    assert answer.usage.prompt_tokens > 0


# Responses
