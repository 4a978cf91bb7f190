"""Chat requests: every malformed field is named, every sane one passes unchanged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.dialects.openai_chat import check, parts
from tollway.core.errors import GatewayError

HELLO = [{"role": "user", "content": "hello"}]


def body(**fields):
    return json.dumps({"model": "m", "messages": HELLO, **fields}).encode()


def content(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


LOOP = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/a"}},
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
}

REFUSED = [
    ({"model": None}, "missing_field", "model"),
    ({"model": ["m"]}, "invalid_value", "model"),
    ({"model": {"id": "m"}}, "invalid_value", "model"),
    ({"model": "m\r\nx: y"}, "invalid_value", "model"),
    ({"model": "m" * 1_000_000}, "invalid_value", "model"),
    ({"messages": None}, "missing_field", "messages"),
    ({"messages": []}, "invalid_value", "messages"),
    ({"messages": "hello"}, "invalid_value", "messages"),
    ({"messages": [None]}, "invalid_value", "messages[0]"),
    ({"messages": [1]}, "invalid_value", "messages[0]"),
    ({"messages": [{"role": 5, "content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "invalid_value", "messages[0].content"),
    ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "invalid_value", "messages[0].content"),
    (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": "x"}]},
        "invalid_value",
        "messages[0].tool_calls",
    ),
    (content(5), "invalid_value", "messages[0].content[0]"),
    (content({"type": 5}), "invalid_value", "messages[0].content[0]"),
    (content({"type": "text"}), "invalid_value", "messages[0].content[0].text"),
    (content({"type": "image_url", "image_url": "x"}), "invalid_value", "messages[0].content[0].image_url"),
    (
        content({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
        "invalid_value",
        "messages[0].content[0].image_url.url",
    ),
    (
        content({"type": "input_audio", "input_audio": {}}),
        "invalid_value",
        "messages[0].content[0].input_audio",
    ),
    (content({"type": "file", "file": 1}), "invalid_value", "messages[0].content[0].file"),
    (
        content({"type": "file", "file": {"file_data": 1}}),
        "invalid_value",
        "messages[0].content[0].file.file_data",
    ),
    ({"tools": "x"}, "invalid_value", "tools"),
    ({"tools": [1]}, "invalid_value", "tools[0]"),
    ({"tools": [{"type": "function"}]}, "invalid_value", "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "invalid_value", "tools[0].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "invalid_value",
        "tools[0].function.parameters",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": LOOP}}]},
        "invalid_value",
        "tools[0].function.parameters",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 1_000_000}}}]},
        "invalid_value",
        "tools[0]",
    ),
    ({"functions": {}}, "invalid_value", "functions"),
    ({"functions": [{}]}, "invalid_value", "functions[0].name"),
    ({"tool_choice": "always"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {}}, "invalid_value", "tool_choice"),
    ({"stream": "yes"}, "invalid_value", "stream"),
    ({"stream": 1}, "invalid_value", "stream"),
    ({"stream_options": 5}, "invalid_value", "stream_options"),
    ({"stream_options": {"include_usage": "yes"}}, "invalid_value", "stream_options.include_usage"),
    ({"temperature": 2.1}, "invalid_value", "temperature"),
    ({"temperature": -0.1}, "invalid_value", "temperature"),
    ({"temperature": "hot"}, "invalid_value", "temperature"),
    ({"temperature": True}, "invalid_value", "temperature"),
    ({"top_p": 1.01}, "invalid_value", "top_p"),
    *[
        ({"max_tokens": value}, "invalid_value", "max_tokens")
        for value in (-5, 0, 1e30, "abc", 1.5, True, 2**64 - 1)
    ],
    *[
        ({"max_completion_tokens": value}, "invalid_value", "max_completion_tokens")
        for value in (0, "1", False)
    ],
    *[({"n": value}, "invalid_value", "n") for value in (0, -1, 10**9, 1.5)],
    ({"seed": 2**63}, "invalid_value", "seed"),
    ({"stop": [1]}, "invalid_value", "stop"),
    ({"stop": 1}, "invalid_value", "stop"),
    ({"response_format": "json"}, "invalid_value", "response_format"),
    ({"metadata": 1}, "invalid_value", "metadata"),
    ({"modalities": "text"}, "invalid_value", "modalities"),
    ({"logit_bias": []}, "invalid_value", "logit_bias"),
    ({"user": 1}, "invalid_value", "user"),
    ({"api_base": "http://127.0.0.1"}, "forbidden_field", "api_base"),
    ({"base_url": "http://127.0.0.1"}, "forbidden_field", "base_url"),
    ({"api_key": "sk-x"}, "forbidden_field", "api_key"),
    ({"metadata": {"user_api_key": "x"}}, "forbidden_field", "metadata.user_api_key"),
    ({"max_tokens": 10**29}, "invalid_value", "max_tokens"),
]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    REFUSED,
    ids=[f"{param}-{index}" for index, (_, _, param) in enumerate(REFUSED)],
)
def test_a_malformed_field_is_refused_by_name(fields, code, param):
    with pytest.raises(GatewayError) as caught:
        check.read(body(**fields))
    assert (caught.value.code, caught.value.param, caught.value.status) == (code, param, 400)
    assert len(caught.value.message) < 300


def test_duplicate_keys_are_refused_even_between_the_kept_and_the_removed():
    with pytest.raises(GatewayError) as caught:
        check.read(b'{"model":"a","messages":[{"role":"user","content":"x"}],"model":"b"}')
    assert caught.value.code == "invalid_json"


def test_an_oversized_image_is_413():
    with pytest.raises(GatewayError) as caught:
        check.read(
            body(
                **content(
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 30_000_000}}
                )
            )
        )
    assert caught.value.status == 413


ACCEPTED = [
    {"max_tokens": None, "temperature": None, "stream": None, "tools": None, "stop": None},
    {"__proto__": {"x": 1}, "unknown": [1, {"a": None}]},
    {
        "stop": ["a", "b"],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    },
    {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            }
        ]
    },
    {"messages": [{"role": "user", "content": "nul \u0000 passes escaped"}]},
    {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "tree",
                    "parameters": {
                        "type": "object",
                        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
                    },
                },
            }
        ]
    },
    {"tools": [{"type": "custom", "custom": {"name": "shell"}}]},
    {"messages": [{"role": "user", "content": [{"type": "hologram", "hologram": 1}]}]},
]


@pytest.mark.parametrize("fields", ACCEPTED)
def test_what_is_sane_or_unknown_passes_unchanged(fields):
    request = check.read(body(**fields))
    sent = json.loads(request.body("theirs", None))
    assert sent == {"model": "theirs", "messages": HELLO, **fields}


def test_streaming_always_asks_for_usage_and_remembers_whether_the_client_did():
    silent = check.read(body(stream=True, stream_options={"include_obfuscation": False}))
    asking = check.read(body(stream=True, stream_options={"include_usage": True}))
    assert (silent.include_usage, asking.include_usage) == (False, True)
    assert json.loads(silent.body("m", None))["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }


def test_openrouters_wish_for_usage_is_granted_and_not_passed_on():
    asking = check.read(body(stream=True, usage={"include": True}))
    assert asking.include_usage
    assert "usage" not in json.loads(asking.body("m", None))
    assert not check.read(body(stream=True, usage={"include": False})).include_usage


def test_a_cap_on_output_is_sent_only_when_given():
    request = check.read(body())
    assert json.loads(request.body("m", 77))["max_tokens"] == 77
    assert "max_tokens" not in json.loads(request.body("m", None))


def test_max_completion_tokens_wins_over_max_tokens():
    assert check.read(body(max_tokens=5, max_completion_tokens=7)).output_wanted == 7


@given(st.text(max_size=200))
def test_the_input_bound_is_never_below_the_bytes_of_the_text(text):
    request = check.read(json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode())
    assert request.input_bound >= len(text.encode())


USUAL = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.just(HELLO)},
    optional={
        "stream": st.none() | st.booleans(),
        "stream_options": st.none()
        | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": st.just(1)}),
        "max_tokens": st.none() | st.integers(1, 99),
        "temperature": st.none() | st.floats(0, 2),
        "note": st.sampled_from(["input_audio", '"input_audio"', {"input_audio": 1}, {"file_id": "x"}, "a:b", "ü"]),
        "long": st.just({"x" * parts.IMAGE_TOKENS_MAX: None}),
    },
)  # fmt: skip


@given(USUAL, st.sampled_from([parts.NO_MEDIA, parts.Media(5, 16_000)]))
def test_a_body_without_unusual_members_is_weighed_as_any_other(body, media):
    assert check._weigh_usual("m", media, {**body}) == check._weigh("m", media, {**body})


def test_an_inline_image_counts_as_an_image_not_as_its_base64():
    url = "data:image/png;base64," + "A" * 1_000_000
    request = check.read(body(**content({"type": "image_url", "image_url": {"url": url}})))
    assert request.input_bound < 20_000
