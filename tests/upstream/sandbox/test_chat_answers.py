"""What the well-behaved models answer, asked whole over a socket."""

import base64
import json
import struct

import pytest
from tests.upstream.sandbox.checker import problems
from tests.upstream.sandbox.raw import post, question

from tollway.upstream.sandbox import tokens

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}}, "required": ["city"]}}}  # fmt: skip
TIME = {"type": "function", "function": {"name": "lookupLocalTime"}}
NOTE = {"type": "custom", "custom": {"name": "take_note"}}
TOOLS = [WEATHER, TIME, NOTE]


def message(answer, choice=0):
    assert (answer.status, answer.end) == (200, "complete"), answer
    return answer.json()["choices"][choice]["message"]


def called(answer):
    return [call[call["type"]]["name"] for call in message(answer).get("tool_calls", [])]


def test_a_whole_answer(sandbox):
    answer = sandbox.ask("sandbox-chat", "Hello there")
    text = 'You said: "Hello there". I am a sandbox model: the same question always gets this answer.'
    count = tokens.count(text)
    body = answer.json()
    assert body.pop("id").startswith("chatcmpl-") and body.pop("created") >= 1735689600
    assert body == {
        "object": "chat.completion",
        "model": "sandbox-chat",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3 + tokens.count("Hello there"),
            "completion_tokens": count,
            "total_tokens": 3 + tokens.count("Hello there") + count,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_sandbox",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_bytes(sandbox, stream):
    answers = {sandbox.ask("sandbox-reasoning", "Again", stream=stream, seed=7).body for _ in range(3)}
    assert len(answers) == 1


def test_seed_and_choice_change_the_words(sandbox):
    contents = [
        message(sandbox.ask("sandbox-chat", n=2, seed=seed), choice)["content"]
        for seed in (0, 2)
        for choice in (0, 1)
    ]
    assert len(set(contents)) == 4


ECHOED = ["", "x", "  spaces\tand\n\nlines ", "日本語 🙂", '"quoted" \\ back', "a" * 10_000, "\u0000"]


@pytest.mark.parametrize("text", ECHOED, ids=range(len(ECHOED)))
def test_echo_is_exact(sandbox, text):
    assert message(sandbox.ask("sandbox-echo", text))["content"] == text


def test_echo_of_a_large_message(sandbox):
    text = "word " * 300_000
    body = question("sandbox-echo", text, max_tokens=262_144)
    answer = sandbox.fetch(post(body)).json()
    assert text.startswith(answer["choices"][0]["message"]["content"])
    assert answer["usage"]["prompt_tokens"] == 3 + tokens.count(text)


@pytest.mark.parametrize(
    ("model", "limit", "generated", "finish"),
    [
        ("sandbox-long", None, 2000, "stop"),
        ("sandbox-long", 10, 10, "length"),
        ("sandbox-tokens-500", None, 500, "stop"),
        ("sandbox-tokens-1", None, 1, "stop"),
        ("sandbox-tokens-0", None, 0, "stop"),
        ("sandbox-tokens-12345", None, 12345, "stop"),
        ("sandbox-tokens-500", 500, 500, "stop"),
        ("sandbox-tokens-500", 499, 499, "length"),
    ],
)
def test_exact_numbers_of_tokens(sandbox, model, limit, generated, finish):
    body = sandbox.ask(model, max_tokens=limit).json()
    [choice] = body["choices"]
    assert (tokens.count(choice["message"]["content"]), choice["finish_reason"]) == (generated, finish)
    assert body["usage"]["completion_tokens"] == generated


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_limits_cut_the_answer(sandbox, field):
    full = message(sandbox.ask("sandbox-chat"))["content"]
    body = sandbox.ask("sandbox-chat", **{field: 5}).json()
    assert body["choices"][0]["message"]["content"] == "".join(list(tokens.split(full))[:5])
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 5)


def test_many_choices_share_a_bound(sandbox):
    body = sandbox.ask("sandbox-tokens-100000", n=128).json()
    assert len(body["choices"]) == 128
    assert body["usage"]["completion_tokens"] == 128 * (262_144 // 128)


@pytest.mark.parametrize("stop", ["model", ["nowhere", "model", "sandbox model"]])
def test_stop_sequences(sandbox, stop):
    [choice] = sandbox.ask("sandbox-chat", stop=stop).json()["choices"]
    expected = 'You said: "Hello". I am a ' + ("sandbox " if stop == "model" else "")
    assert (choice["message"]["content"], choice["finish_reason"]) == (expected, "stop")


def test_reasoning_comes_with_its_tokens(sandbox):
    def reasoned(**fields):
        body = sandbox.ask("sandbox-reasoning", **fields).json()
        said = body["choices"][0]["message"]
        return tokens.count(said.get("reasoning_content", "")), body["usage"], said["content"]

    count, usage, text = reasoned()
    assert count == usage["completion_tokens_details"]["reasoning_tokens"] == 32
    assert usage["completion_tokens"] == count + tokens.count(text)
    assert text == message(sandbox.ask("sandbox-chat"))["content"]
    assert [reasoned(reasoning_effort=effort)[0] for effort in ("none", "low", "max")] == [0, 16, 128]


def test_logprobs(sandbox):
    body = sandbox.ask("sandbox-chat", logprobs=True, top_logprobs=3, max_tokens=4).json()
    scored = body["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in scored) == body["choices"][0]["message"]["content"]
    assert [len(one["top_logprobs"]) for one in scored] == [3, 3, 3, 3]
    assert all(one["logprob"] <= 0 and bytes(one["bytes"]).decode() == one["token"] for one in scored)
    assert all(one["top_logprobs"][0]["token"] == one["token"] for one in scored)


@pytest.mark.parametrize(
    ("text", "extra", "names"),
    [
        ("Hello", {}, []),
        ("What is the weather in Paris?", {}, ["get_weather"]),
        ("please GET_WEATHER now", {}, ["get_weather"]),
        ("get weather", {}, ["get_weather"]),
        ("What local customs are there?", {}, ["lookupLocalTime"]),
        ("Look up nothing", {}, []),
        ("weather and time", {}, ["get_weather", "lookupLocalTime"]),
        ("weather and time", {"parallel_tool_calls": False}, ["get_weather"]),
        ("weather", {"tool_choice": "none"}, []),
        ("Hello", {"tool_choice": "required"}, ["get_weather"]),
        ("take note: time", {"tool_choice": "required"}, ["lookupLocalTime", "take_note"]),
        ("Hello", {"tool_choice": {"type": "function", "function": {"name": "lookupLocalTime"}}}, ["lookupLocalTime"]),
        ("Hello", {"tool_choice": {"type": "custom", "custom": {"name": "take_note"}}}, ["take_note"]),
        (
            "weather and time",
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "lookupLocalTime"}}]}}},
            ["lookupLocalTime"],
        ),
    ],
)  # fmt: skip
def test_which_tools_are_called(sandbox, text, extra, names):
    answer = sandbox.ask("sandbox-chat", text, tools=TOOLS, **extra)
    assert called(answer) == names
    assert answer.json()["choices"][0]["finish_reason"] == ("tool_calls" if names else "stop")


def test_what_tools_are_called_with(sandbox):
    calls = message(sandbox.ask("sandbox-chat", "weather, time, take note", tools=TOOLS))["tool_calls"]
    arguments = json.loads(calls[0]["function"]["arguments"])
    assert problems(arguments, WEATHER["function"]["parameters"]) == []
    assert arguments == {"city": "sample city", "days": 3}
    assert calls[1]["function"]["arguments"] == "{}"
    assert calls[2]["custom"] == {"name": "take_note", "input": "weather, time, take note"}
    assert len({call["id"] for call in calls}) == 3


def test_tool_results_are_quoted(sandbox):
    asked = [{"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}} for n, name in enumerate(["get_weather", "lookupLocalTime"])]  # fmt: skip
    messages = [
        {"role": "user", "content": "weather and time"},
        {"role": "assistant", "content": None, "tool_calls": asked},
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
    ]
    answer = sandbox.fetch(post({"model": "sandbox-chat", "messages": messages, "tools": TOOLS}))
    assert message(answer)["content"] == "get_weather returned: sunny\nlookupLocalTime returned: noon"


ASKED = {"role": "user", "content": "weather"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]}  # fmt: skip
RESULT = {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
TOLD = [
    ASKED,
    {"role": "assistant", "content": "Calling get_weather"},
    {"role": "user", "content": "It said: sunny"},
]


@pytest.mark.parametrize(
    ("messages", "tools", "choice", "names"),
    [
        ([ASKED, CALLED, RESULT], TOOLS, "required", ["lookupLocalTime"]),
        ([ASKED, CALLED, RESULT], TOOLS, "auto", []),
        ([ASKED, CALLED, RESULT], TOOLS, NAMED, []),
        ([ASKED, CALLED, RESULT], [WEATHER], "required", []),
        ([ASKED, CALLED, RESULT, ASKED], TOOLS, "required", ["get_weather"]),
        (TOLD, TOOLS, "required", ["lookupLocalTime"]),
        (TOLD, [WEATHER], "required", ["get_weather"]),
    ],
)
def test_an_agent_that_ends_by_calling_a_tool_comes_to_its_end(sandbox, messages, tools, choice, names):
    body = {"model": "sandbox-chat", "messages": messages, "tools": tools, "tool_choice": choice}
    assert called(sandbox.fetch(post(body))) == names


def test_json_that_is_asked_for_in_words(sandbox):
    told = {"role": "system", "content": "Be nice. Answer with one JSON object and nothing else."}
    body = {"model": "sandbox-chat", "messages": [told, {"role": "user", "content": "Hello"}]}
    assert json.loads(message(sandbox.fetch(post(body)))["content"])["answer"] == "Hello"


PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}}, "required": ["name", "age"], "additionalProperties": False}  # fmt: skip


def test_json_formats(sandbox):
    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    assert json.loads(message(sandbox.ask("sandbox-chat", response_format=schema))["content"]) == {
        "name": "sample name",
        "age": 18,
    }
    plain = json.loads(
        message(sandbox.ask("sandbox-chat", response_format={"type": "json_object"}))["content"]
    )
    assert plain == {"answer": "Hello", "model": "sandbox-chat"}
    assert message(sandbox.ask("sandbox-chat", response_format={"type": "text"}))["content"].startswith(
        "You said"
    )


def data_url(head, mime="image/png"):
    return f"data:{mime};base64,{base64.b64encode(head).decode()}"


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 64, 48) + b"\x08\x06\x00\x00\x00"
GIF = b"GIF89a" + struct.pack("<HH", 10, 20) + b"\x00" * 3
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
    + b"\x00" * 9
    + b"\xff\xc0\x00\x11\x08\x00\x1e\x00\x28\x03"
    + b"\x00" * 9
)
VP8X = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + b"\x63\x00\x00\xc7\x00\x00"
VP8L = b"RIFF\x00\x00\x00\x00WEBPVP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", 99 | 49 << 14)


@pytest.mark.parametrize(
    ("url", "about"),
    [
        (data_url(PNG), "PNG, 64x48"),
        (data_url(GIF), "GIF, 10x20"),
        (data_url(JPEG), "JPEG, 40x30"),
        (data_url(VP8X), "WebP, 100x200"),
        (data_url(VP8L), "WebP, 100x50"),
        (data_url(PNG[:20]), "unknown format"),
        (data_url(JPEG[:12]), "JPEG"),
        ("data:image/png;base64,!!!!", "unknown format"),
        ("https://example.com/cat.png", "https://example.com/cat.png"),
    ],
    ids=range(9),
)
def test_images_are_seen(sandbox, url, about):
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = sandbox.ask("sandbox-chat", parts)
    assert f"I see 1 image ({about})." in message(answer)["content"]
    assert answer.json()["usage"]["prompt_tokens"] == 3 + 1 + 16


def test_sounds_and_files_are_noticed(sandbox):
    data = base64.b64encode(b"x" * 10).decode()
    parts = [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}},
        {"type": "file", "file": {"file_id": "file-123"}},
    ]
    content = message(sandbox.ask("sandbox-chat", parts))["content"]
    assert "I hear 1 sound (wav, 10 bytes). I read 2 files (a.pdf, 10 bytes; file-123)." in content


def test_prompt_tokens_can_be_recomputed(sandbox):
    calls = [
        {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
    ]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    texts = [
        "Be brief.",
        "one\ntwo",
        "get_weather",
        '{"city":"Rome"}',
        "sunny",
        json.dumps([WEATHER], separators=(",", ":")),
    ]
    usage = sandbox.fetch(post({"model": "sandbox-chat", "messages": messages, "tools": [WEATHER]})).json()[
        "usage"
    ]
    assert usage["prompt_tokens"] == 4 * 3 + sum(tokens.count(text) for text in texts)


def test_cached_tokens_of_a_growing_conversation(sandbox):
    turns = [{"role": "user", "content": "first question"}]

    def cached():
        usage = sandbox.fetch(post({"model": "sandbox-cache", "messages": turns})).json()["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]

    assert cached()[0] == 0
    before = cached()
    assert before[0] == before[1]
    turns += [{"role": "assistant", "content": "an answer"}, {"role": "user", "content": "second"}]
    assert cached()[0] == before[1]
    turns[0] = {"role": "user", "content": "changed"}
    assert cached()[0] == 0


def test_refusal_and_filter(sandbox):
    refused = sandbox.ask("sandbox-refusal").json()["choices"][0]
    assert (
        refused["message"]["content"] is None
        and refused["message"]["refusal"]
        and refused["finish_reason"] == "stop"
    )
    filtered = sandbox.ask("sandbox-filter").json()["choices"][0]
    assert filtered["message"]["content"] and filtered["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"", 400, None, None),
        (b"{", 400, None, None),
        (b'{"model": "\xff"}', 400, None, None),
        (b'{"model": "m", "tools": [{"a": ' + b"[" * 5000, 400, None, None),
        (b"[]", 400, None, "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "model", "missing_required_parameter"),
        ({"model": "sandbox-chat"}, 400, "messages", "missing_required_parameter"),
        ({"model": "sandbox-chat", "messages": []}, 400, "messages", "invalid_value"),
        ({"model": "sandbox-chat", "messages": [{"role": "pope"}]}, 400, "messages[0].role", "invalid_value"),
        (question("sandbox-chat", [{"type": "smell"}]), 400, "messages", "invalid_value"),
        (question("sandbox-chat", max_tokens=0), 400, "max_tokens", "invalid_value"),
        (question("sandbox-chat", max_tokens="x"), 400, "max_tokens", "invalid_value"),
        (question("sandbox-chat", n=0), 400, "n", "invalid_value"),
        (question("sandbox-chat", n=129), 400, "n", "invalid_value"),
        (question("sandbox-chat", temperature=3), 400, "temperature", "invalid_value"),
        (question("sandbox-chat", stop=list("abcde")), 400, "stop", "invalid_value"),
        (question("sandbox-chat", tools=[{"type": "function"}]), 400, "tools[0].function.name", "missing_required_parameter"),
        (question("sandbox-chat", tools=[{"type": "spanner"}]), 400, "tools[0].type", "invalid_value"),
        (question("sandbox-chat", tool_choice={"type": "spanner"}), 400, "tool_choice", "invalid_value"),
        (question("sandbox-chat", response_format={"type": "json_schema"}), 400, "response_format", None),
        (question("sandbox-nonesuch"), 404, "model", "model_not_found"),
        (question("sandbox-chat", "word " * 1_000_000), 400, "messages", "context_length_exceeded"),
    ],
    ids=range(22),
)  # fmt: skip
def test_bad_requests(sandbox, body, status, param, code):
    answer = sandbox.fetch(post(body))
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error" and error["message"]


CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "rain"}
ASKED = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([ASKED, CALLED, RESULT], 200),
        ([ASKED, CALLED, RESULT, ASKED, CALLED, RESULT, ASKED], 200),
        ([ASKED, RESULT], 400),
        ([ASKED, CALLED, {**RESULT, "tool_call_id": "b"}], 400),
        ([ASKED, CALLED, RESULT, RESULT], 400),
        ([ASKED, CALLED], 400),
        ([ASKED, CALLED, ASKED, RESULT], 400),
    ],
)
def test_calls_are_answered_where_they_were_made(sandbox, messages, status):
    assert sandbox.fetch(post({"model": "sandbox-chat", "messages": messages})).status == status
