"""Embeddings: what clients of both dialects ask, what upstreams of both are sent, and the way back."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tollway.core.errors import GatewayError
from tollway.core.exchange import Counted, Failed, Grew
from tollway.core.media.embeddings import INPUTS_MAX, Vectors, read_gemini, read_openai
from tollway.core.relay import BadAnswer, Receipt

BILL = Receipt(cost=0.5, estimated=False, input=7, output=0)


def content(text: str) -> dict:
    return {"content": {"parts": [{"text": text}]}}


def answered(asked, upstream: str, body: object, receipt: Receipt = BILL):
    relay = Vectors(asked, upstream, "public")
    relay.feed(json.dumps(body).encode())
    events = relay.end().events
    return events, json.loads(relay.close(receipt))


OPENAI_ANSWER = {
    "object": "list",
    "model": "theirs",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
    "extra": 1,
}


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ([1, 2, 3],)),
        ([[1], [2, 3]], ([1], [2, 3])),
    ],
)
def test_every_form_of_input_is_understood(value, inputs):
    assert read_openai({"model": "m", "input": value}).inputs == inputs


@pytest.mark.parametrize(
    "value",
    [None, "", [], [""], [[]], 5, {"a": 1}, ["a", 5], [[1, "a"]], [-1], [True], ["a"] * (INPUTS_MAX + 1)],
)
def test_nonsense_is_refused_by_its_field(value):
    with pytest.raises(GatewayError) as caught:
        read_openai({"model": "m", "input": value})
    assert caught.value.status == 400
    assert caught.value.param.startswith("input")


@pytest.mark.parametrize("body", [{}, {"content": {}}, {"content": {"parts": []}}, content("")])
def test_a_gemini_request_without_text_is_refused(body):
    with pytest.raises(GatewayError) as caught:
        read_gemini({"model": "m", **body}, batch=False)
    assert "content" in caught.value.param


def test_unknown_members_survive_to_an_upstream_of_the_same_dialect():
    asked = read_openai({"model": "m", "input": "a", "truncate": "END", "user": "u"})
    assert json.loads(asked.write("openai_chat", "theirs")) == {
        "model": "theirs",
        "input": "a",
        "truncate": "END",
        "user": "u",
    }
    asked = read_gemini({"model": "m", **content("a"), "taskType": "X", "new": 1}, batch=False)
    assert json.loads(asked.write("gemini", "theirs")) == {
        "model": "models/theirs",
        **content("a"),
        "taskType": "X",
        "new": 1,
    }


def test_openai_asks_gemini_for_several_at_once():
    asked = read_openai({"model": "m", "input": ["a", "b"], "dimensions": 8})
    assert asked.batched("gemini")
    assert json.loads(asked.write("gemini", "g")) == {
        "requests": [
            {"model": "models/g", **content("a"), "outputDimensionality": 8},
            {"model": "models/g", **content("b"), "outputDimensionality": 8},
        ]
    }


def test_gemini_asks_openai_for_plain_floats():
    body = {"requests": [{"model": "models/x", **content("a"), "output_dimensionality": 4}, content("b")]}
    asked = read_gemini({"model": "models/m", **body}, batch=True)
    assert asked.model == "m"
    assert json.loads(asked.write("openai_chat", "o")) == {
        "model": "o",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 4,
    }


@pytest.mark.parametrize("upstream", ["anthropic", "gemini"])
def test_what_an_upstream_cannot_embed_is_said(upstream):
    with pytest.raises(GatewayError) as caught:
        read_openai({"model": "m", "input": [1, 2]}).write(upstream, "x")
    assert caught.value.code == "unsupported_parameter"


def test_a_native_answer_keeps_its_members_and_gets_its_cost():
    events, answer = answered(read_openai({"model": "m", "input": "a"}), "openai_chat", OPENAI_ANSWER)
    assert [event.usage.input for event in events if isinstance(event, Counted)] == [3]
    assert not any(isinstance(event, Grew) for event in events), "output would be billed for it"
    assert answer == {
        **OPENAI_ANSWER,
        "model": "public",
        "usage": {"prompt_tokens": 3, "total_tokens": 3, "cost": 0.5},
    }


def test_a_gemini_answer_is_packed_for_clients_that_want_base64():
    asked = read_openai({"model": "m", "input": ["a", "b"], "encoding_format": "base64"})
    body = {"embeddings": [{"values": [0.5, -0.25]}, {"values": [1.0, 0.0]}]}
    events, answer = answered(asked, "gemini", body, replace(BILL, estimated=True))
    assert not any(isinstance(event, Counted) for event in events)
    vectors = [struct.unpack("<2f", base64.b64decode(one["embedding"])) for one in answer["data"]]
    assert vectors == [(0.5, -0.25), (1.0, 0.0)]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7, "cost": 0.5, "estimated": True}


@pytest.mark.parametrize("batch", [False, True])
def test_an_openai_answer_reaches_a_gemini_client(batch):
    body = {"requests": [content("a")]} if batch else content("a")
    asked = read_gemini({"model": "m", **body}, batch=batch)
    answer = answered(asked, "openai_chat", OPENAI_ANSWER)[1]
    vector = {"values": [0.5, -0.25]}
    assert answer.get("embeddings" if batch else "embedding") == ([vector] if batch else vector)
    assert answer["usageMetadata"]["cost"] == 0.5


@pytest.mark.parametrize(
    "body",
    [
        "text",
        [],
        {},
        {"data": []},
        {"data": [{}]},
        {"data": [{"embedding": 5}]},
        {"data": OPENAI_ANSWER["data"] * 2},
    ],
)
def test_what_is_no_answer_is_a_bad_answer(body):
    relay = Vectors(read_openai({"model": "m", "input": "a"}), "openai_chat", "public")
    relay.feed(json.dumps(body).encode())
    with pytest.raises(BadAnswer):
        relay.end()


def test_an_error_in_the_body_is_a_failure():
    relay = Vectors(read_openai({"model": "m", "input": "a"}), "openai_chat", "public")
    relay.feed(b'{"error": {"message": "no", "code": "server_error"}}')
    assert isinstance(relay.end().events[0], Failed)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_the_bound_is_never_below_a_token_for_each_byte(texts):
    asked = read_openai({"model": "m", "input": texts})
    assert asked.input_bound >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_base64_and_floats_hold_the_same_numbers(vector):
    packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    asked = read_gemini({"model": "m", **content("a")}, batch=False)
    answer = answered(asked, "openai_chat", {"data": [{"embedding": packed}]})[1]
    assert answer["embedding"]["values"] == vector


ONE = {"openai": read_openai({"model": "m", "input": "a"}), "gemini": read_gemini({"model": "m", **content("a")}, batch=False)}  # fmt: skip
PACKED = read_openai({"model": "m", "input": "a", "encoding_format": "base64"})


@pytest.mark.parametrize(
    ("asked", "upstream", "vector"),
    [
        (PACKED, "gemini", ["x"]),
        (PACKED, "gemini", [None]),
        (PACKED, "gemini", [1e39]),
        (ONE["gemini"], "openai_chat", "***"),
        (ONE["gemini"], "openai_chat", "AAA"),
        (ONE["gemini"], "openai_chat", "AAAAAAA="),
        (ONE["gemini"], "openai_chat", "\u00e9"),
    ],
)
def test_vectors_that_cannot_be_told_are_found_out_before_they_are_paid(asked, upstream, vector):
    body = (
        {"data": [{"embedding": vector}]} if upstream == "openai_chat" else {"embedding": {"values": vector}}
    )
    relay = Vectors(asked, upstream, "public")
    relay.feed(json.dumps(body).encode())
    with pytest.raises(BadAnswer):
        relay.end()


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "A" * 10_000}}


@pytest.mark.parametrize(
    "beside",
    [
        {"title": "t" * 10_000},
        {"content": {"parts": [{"text": "a"}, PICTURE]}},
        {"content": {"parts": [{"text": "a", **PICTURE}]}},
        {"content": {"parts": [{"text": "a"}], "new": "n" * 10_000}},
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_what_is_said_beside_the_text_is_bounded_too(beside, batch):
    one = {**content("a"), **beside}
    body = {"requests": [content("b"), one]} if batch else one
    assert read_gemini({"model": "m", **body}, batch=batch).input_bound > 10_000
    assert read_openai({"model": "m", "input": "a", "instruction": "i" * 10_000}).input_bound > 10_000


def test_members_no_model_reads_count_for_nothing():
    plain = read_gemini({"model": "m", **content("abc")}, batch=False).input_bound
    full = {**content("abc"), "taskType": "X", "outputDimensionality": 5, "stream": False}
    assert read_gemini({"model": "m", **full}, batch=False).input_bound == plain == 5
    body = {"model": "m", "input": "abc", "user": "u" * 99, "dimensions": 5, "encoding_format": "float"}
    assert read_openai(body).input_bound == 5
