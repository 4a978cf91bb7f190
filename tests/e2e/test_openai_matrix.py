"""The official OpenAI SDK on models behind every upstream dialect: chat, responses, embeddings, models, errors.

`_strict_response_validation` has the SDK's own types check every member of what it is sent.
"""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import urllib.request

import openai
import pytest
from tests.support.cells import PNG, UPSTREAMS, model_for
from tests.support.gateway import fetch
from tests.support.openai_sdk import BOTH, FLAT_TOOLS, HELLO, Trip

BEHIND = pytest.mark.parametrize("behind", UPSTREAMS)
EMBEDDERS = ("openai_chat", "openai_responses", "gemini")


@pytest.fixture(scope="module")
def served(matrix, upstream):
    """The matrix with models that embed, for the dialects that can."""
    for behind in EMBEDDERS:
        public = model_for(behind, "embed")
        matrix.cli("model", "add", public, "--kind", "embedding", "--input-price", "100")
        root = "/v1beta" if behind == "gemini" else "/v1"
        matrix.cli(
            *("channel", "add", "--name", f"embed-{behind}", "--dialect", behind),
            *("--base-url", upstream.url + root, "--secret-env", "UP_KEY"),
            *("--model", f"{public}=sandbox-embed"),
            UP_KEY="sk-upstream-canary-0123456789",
        )
    return matrix


@BEHIND
def test_responses_whole_and_streamed_say_the_same(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "input": "Hello!"}
    whole = sdk.responses.create(**asked)
    with sdk.responses.create(**asked, stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type, events[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    last = events[-1].response
    assert last.output_text == whole.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert {event.response.id for event in events if hasattr(event, "response")} == {last.id}
    assert last.usage.model_extra["cost"] == whole.usage.model_extra["cost"] > 0


@BEHIND
def test_responses_parse_a_schema_whole_and_streamed(sdk, behind):
    asked = {"model": model_for(behind, "chat"), "input": "Four days in Hanoi.", "text_format": Trip}
    whole = sdk.responses.parse(**asked)
    assert isinstance(whole.output_parsed, Trip)
    with sdk.responses.stream(**asked) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed == whole.output_parsed


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_tools_in_parallel_and_take_their_results(sdk, behind, stream):
    asked = {"model": model_for(behind, "chat"), "tools": FLAT_TOOLS, "store": False}
    history = [{"role": "user", "content": BOTH}]

    def ask(items):
        return respond(sdk, stream=stream, input=items, **asked)

    first = ask(history)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert all(set(json.loads(call.arguments)) == {"city"} for call in calls)
    history += [item.model_dump(exclude_none=True) for item in first.output]
    history += [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"{call.name} says 31"}
        for call in calls
    ]
    second = ask([without_parsed(item) for item in history])
    assert "get_weather says 31" in second.output_text
    assert "get_time says 31" in second.output_text


def respond(sdk, *, stream, **asked):
    if not stream:
        return sdk.responses.create(**asked)
    with sdk.responses.stream(**asked) as found:
        for _ in found:
            pass
        return found.get_final_response()


def without_parsed(item):
    return {name: value for name, value in item.items() if name != "parsed_arguments"}


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_a_custom_tool_with_raw_text(sdk, behind, stream):
    tool = {"type": "custom", "name": "run_code", "description": "Runs code"}
    asked = {"model": model_for(behind, "chat"), "tools": [tool], "store": False}
    history = [{"role": "user", "content": "run_code please"}]
    first = respond(sdk, stream=stream, input=history, **asked)
    call = next(item for item in first.output if item.type == "custom_tool_call")
    assert call.name == "run_code"
    assert call.input
    history += [item.model_dump(exclude_none=True) for item in first.output]
    history.append({"type": "custom_tool_call_output", "call_id": call.call_id, "output": "it ran"})
    second = respond(sdk, stream=stream, input=history, **asked)
    assert "it ran" in second.output_text


@BEHIND
@pytest.mark.parametrize("stream", [False, True])
def test_responses_reasoning_is_encrypted_and_taken_back_where_nothing_is_stored(
    sdk, upstream, behind, stream
):
    asked = {
        "model": model_for(behind, "reasoning"),
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "tools": FLAT_TOOLS,
    }
    history = [{"role": "user", "content": "What is the weather in Hanoi?"}]
    first = respond(sdk, stream=stream, input=history, **asked)
    sealed = [item.encrypted_content for item in first.output if item.type == "reasoning"]
    call = next(item for item in first.output if item.type == "function_call")
    # Chat Completions signs nothing; Gemini signs the call, which has an item of its own for it.
    assert any(sealed) == (behind != "openai_chat")
    assert first.usage.output_tokens_details.reasoning_tokens > 0
    history += [without_parsed(item.model_dump(exclude_none=True)) for item in first.output]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "31 degrees"})
    second = respond(sdk, stream=stream, input=history, **asked)
    assert "31 degrees" in second.output_text
    told = json.dumps(sandbox_last(upstream)["body"])
    seal = {
        "anthropic": '"signature"',
        "gemini": '"thoughtSignature"',
        "openai_responses": '"encrypted_content"',
    }
    assert behind == "openai_chat" or seal[behind] in told
    assert "tw1." not in told


def sandbox_last(upstream):
    return fetch(urllib.request.Request(f"{upstream.url}/sandbox/last"))[2]


@BEHIND
def test_responses_see_an_image(sdk, behind):
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"},
    ]
    answer = sdk.responses.create(
        model=model_for(behind, "chat"), input=[{"role": "user", "content": content}]
    )
    assert "1 image (PNG, 1x1)" in answer.output_text


@BEHIND
def test_responses_count_their_input_free_of_charge(sdk, matrix, behind):
    before = matrix.cli("credits", "balance")["available"]
    found = sdk.responses.input_tokens.count(model=model_for(behind, "chat"), input="Hello!")
    assert 0 < found.input_tokens < 100
    assert matrix.cli("credits", "balance")["available"] == before


# Embeddings and models


@pytest.mark.parametrize("behind", EMBEDDERS)
def test_embeddings_are_the_same_as_numbers_and_as_base64(served, sdk, behind):
    asked = {"model": model_for(behind, "embed"), "input": ["red sea", "old sun"]}
    numbers = sdk.embeddings.create(**asked, encoding_format="float")
    raw = sdk.embeddings.with_raw_response.create(**asked, encoding_format="base64")
    packed = [base64.b64decode(one["embedding"]) for one in json.loads(raw.content)["data"]]
    # The SDK asks for base64 by itself, and its strict validation does not know its own answer.
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0) as lenient:
        usual = lenient.embeddings.create(**asked)
    assert [one.index for one in numbers.data] == [0, 1]
    assert numbers.data[0].embedding != numbers.data[1].embedding
    for one, data, decoded in zip(numbers.data, packed, usual.data, strict=True):
        assert struct.unpack(f"<{len(data) // 4}f", data) == pytest.approx(one.embedding, abs=1e-6)
        assert decoded.embedding == pytest.approx(one.embedding, abs=1e-6)
    assert numbers.model == asked["model"]


@pytest.mark.parametrize("behind", EMBEDDERS)
def test_embeddings_are_charged_for_their_input_and_nothing_else(served, sdk, behind):
    raw = sdk.embeddings.with_raw_response.create(
        model=model_for(behind, "embed"), input=["red sea", "old sun"], encoding_format="float"
    )
    receipt = served.get(f"/v1/generations/{raw.headers['x-request-id']}")[2]
    usage = json.loads(raw.content)["usage"]
    assert receipt["usage"]["meters"] == {"input": usage["prompt_tokens"]}
    assert usage["cost"] == receipt["net"] == usage["prompt_tokens"] * 100 / 10**6
    if behind != "gemini":
        # Gemini's upstream counts nothing here; the others did, so theirs is what is billed.
        assert "estimated" not in usage
        assert receipt["flags"] == []


def test_models_are_listed_and_found(sdk):
    names = {model.id for model in sdk.models.list()}
    assert {model_for(behind, "chat") for behind in UPSTREAMS} <= names
    assert sdk.models.retrieve("sandbox-chat").object == "model"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nobody")


# Errors


ASKS = {
    "chat": lambda client, model: client.chat.completions.create(model=model, messages=HELLO),
    "responses": lambda client, model: client.responses.create(model=model, input="Hello!"),
}


@BEHIND
@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("429", openai.RateLimitError, "upstream_rate_limited"),
        ("500", openai.InternalServerError, "upstream_error"),
        ("first-error", openai.InternalServerError, "upstream_error"),
    ],
)
@pytest.mark.parametrize("surface", ["chat", "responses"])
def test_upstream_errors_are_the_classes_the_sdk_knows(sdk, behind, name, error, code, surface):
    model = model_for(behind, name)
    with pytest.raises(error) as caught:
        ASKS[surface](sdk, model)
    assert caught.value.code == code
    assert set(caught.value.body) >= {"message", "type", "param", "code"}
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("asked", "error", "param"),
    [
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"max_completion_tokens": -1}, openai.BadRequestError, "max_completion_tokens"),
        ({"model": "nobody"}, openai.NotFoundError, "model"),
    ],
)
@BEHIND
def test_mistakes_are_told_by_class_and_field(sdk, behind, asked, error, param):
    with pytest.raises(error) as caught:
        sdk.chat.completions.create(**{"model": model_for(behind, "chat"), "messages": HELLO, **asked})
    assert caught.value.param == param


@pytest.fixture
def counted():
    """A client as it is by default, which retries, and the list of what it sent."""
    sent = []
    with openai.DefaultHttpxClient(event_hooks={"request": [sent.append]}) as http:
        yield http, sent


@BEHIND
@pytest.mark.parametrize("surface", ["chat", "responses"])
def test_h50_nobody_retries_for_lack_of_credits(matrix, counted, behind, surface):
    http, sent = counted
    poor = matrix.new_key(f"poor-{behind}-{surface}", "--budget", "0.000001")
    client = openai.OpenAI(base_url=matrix.url + "/v1", api_key=poor, http_client=http)
    with pytest.raises(openai.APIStatusError) as caught:
        ASKS[surface](client, model_for(behind, "chat"))
    # Codex understands a lack of credits by OpenAI's own word for it.
    told = {"chat": (402, "key_budget_exceeded"), "responses": (429, "insufficient_quota")}
    assert (caught.value.status_code, caught.value.code) == told[surface]
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(sent) == 1


def test_h50_what_may_succeed_is_tried_again_by_the_client_and_paid_once(matrix, counted):
    http, sent = counted
    matrix.chat("sandbox-flaky")  # One of two fails; whichever this was, the next two are one of each.
    client = openai.OpenAI(base_url=matrix.url + "/v1", api_key=matrix.key, http_client=http)
    answers = [client.chat.completions.create(model="sandbox-flaky", messages=HELLO) for _ in range(2)]
    assert all(answer.choices[0].message.content for answer in answers)
    assert len(sent) > 2
    assert len({answer._request_id for answer in answers}) == 2


@BEHIND
@pytest.mark.parametrize("name", ["cut", "midstream-error"])
def test_streams_that_break_off_raise(sdk, behind, name):
    with (
        pytest.raises(openai.APIError),
        sdk.chat.completions.create(model=model_for(behind, name), messages=HELLO, stream=True) as stream,
    ):
        list(stream)


@BEHIND
@pytest.mark.parametrize("name", ["cut", "midstream-error"])
def test_responses_that_break_off_are_failed_and_never_completed(sdk, behind, name):
    kinds = []
    with (
        contextlib.suppress(openai.APIError),
        sdk.responses.create(model=model_for(behind, name), input="Hello!", stream=True) as events,
    ):
        kinds += [event.type for event in events]
        assert kinds[-1] == "response.failed"
    assert "response.completed" not in kinds
    assert "response.incomplete" not in kinds
