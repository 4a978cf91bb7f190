"""Counts in and out of every dialect, and errors read and written."""

from __future__ import annotations

import json

import pytest
from tests.support.dialects import NAMES, REPLY, events_of, golden, relayed

from tollway.core.dialects.base import AnswerFailed, Bill, Fault, Reading
from tollway.core.dialects.faults import fault_error, redacted
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import CODES, GatewayError
from tollway.core.exchange import Failed, Usage
from tollway.core.fold import fold
from tollway.core.relay import BadAnswer

RAW = {
    "openai_chat": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
    },
    "openai_responses": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 150,
    },
    "anthropic": {
        "input_tokens": 50,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 40,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    },
    "gemini": {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 150,
    },
}


def answer(dialect, usage):
    body = json.loads(json.dumps(golden(dialect, "plain")["response"]))
    body["usageMetadata" if dialect == "gemini" else "usage"] = usage
    return DIALECTS[dialect].read_response(body, Reading())


def shown(dialect, response, bill=None):
    body = DIALECTS[dialect].write_response(response, REPLY, bill)
    return body["usageMetadata" if dialect == "gemini" else "usage"]


@pytest.mark.parametrize("upstream", NAMES)
@pytest.mark.parametrize("client", NAMES)
def test_h46_h47_counts_cross_without_being_added_twice(upstream, client):
    response = answer(upstream, RAW[upstream])
    usage = response.usage
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (100, 50, 40, 20)
    again = answer(client, shown(client, response)).usage
    assert (again.input, again.output, again.cache_read, again.reasoning) == (100, 50, 40, 20)
    if "gemini" not in (upstream, client):
        assert again.cache_write == 10


def test_h46_later_totals_replace_earlier_ones():
    stream = golden("anthropic", "plain")["stream"]
    stream[0]["message"]["usage"] = {"input_tokens": 90, "cache_read_input_tokens": 0, "output_tokens": 1}
    stream[-2]["usage"] = {"input_tokens": 10, "cache_read_input_tokens": 80, "output_tokens": 7}
    usage = fold(events_of("anthropic", stream)).usage
    assert (usage.input, usage.cache_read, usage.output) == (90, 80, 7)


def test_h46_cache_writes_are_told_apart_by_their_time():
    split = {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}
    raw = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 0,
        "cache_creation": split,
        "output_tokens": 2,
    }
    response = answer("anthropic", raw)
    assert (response.usage.cache_write, response.usage.cache_write_1h, response.usage.input) == (4, 6, 11)
    assert shown("anthropic", response) == raw


def test_h48_usage_where_other_providers_put_it():
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    on_the_last_chunk = [
        {
            **head,
            "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        },
        {
            **head,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        },
        "[DONE]",
    ]
    assert fold(events_of("openai_chat", on_the_last_chunk)).usage.output == 2
    groq = [
        {**head, "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]},
        {
            **head,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        },
    ]
    assert fold(events_of("openai_chat", groq)).usage.output == 2


def test_h48_geminis_prompt_count_may_change_at_the_end():
    chunks = golden("gemini", "plain")["stream"]
    chunks[0]["usageMetadata"] = {"promptTokenCount": 59, "totalTokenCount": 59}
    chunks[-1]["usageMetadata"] = {
        "promptTokenCount": 128,
        "toolUsePromptTokenCount": 2,
        "candidatesTokenCount": 4,
        "totalTokenCount": 134,
    }
    usage = fold(events_of("gemini", chunks)).usage
    assert (usage.input, usage.output) == (130, 4)


def test_h49_server_tools_are_counted():
    raw = {**RAW["anthropic"], "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}
    assert answer("anthropic", raw).usage.tools == {"web_search": 2}


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
def test_the_bill_is_the_same_whole_and_streamed(client, upstream):
    bill = Bill(cost=1.25)
    body = DIALECTS[client].write_response(answer(upstream, RAW[upstream]), REPLY, bill)
    assert body["usageMetadata" if client == "gemini" else "usage"]["cost"] == 1.25
    writer = DIALECTS[client].writer(REPLY)
    for event in events_of(upstream, golden(upstream, "plain")["stream"]):
        writer.send(event)
    assert json.dumps(writer.close(bill)).count('"cost": 1.25') == 1


@pytest.mark.parametrize("dialect", NAMES)
def test_an_upstreams_own_price_is_not_shown(dialect):
    response = answer(dialect, {**RAW[dialect], "cost": 99.5})
    assert "cost" not in shown(dialect, response)


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("value", [-5, 10**12, "many", 1.5, True, None])
def test_absurd_counts_are_clamped(dialect, value):
    raw = {name: value if type(given) is int else given for name, given in RAW[dialect].items()}
    usage = answer(dialect, raw).usage
    assert 0 <= usage.output <= 2 * 10**9 and 0 <= usage.input <= 3 * 10**9
    assert usage.anomalous == (value is not None)


ERRORS = [
    (
        "openai_chat",
        429,
        {
            "error": {
                "message": "m",
                "type": "insufficient_quota",
                "code": "insufficient_quota",
                "param": None,
            }
        },
        "credits",
    ),
    (
        "openai_chat",
        429,
        {"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}},
        "rate_limit",
    ),
    (
        "openai_chat",
        400,
        {"error": {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}},
        "context_length",
    ),
    (
        "openai_chat",
        400,
        {"error": {"message": "m", "type": "invalid_request_error", "param": "stop"}},
        "invalid_request",
    ),
    (
        "openai_chat",
        401,
        {"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}},
        "authentication",
    ),
    ("openai_chat", 500, {"error": "boom"}, "server"),
    ("openai_chat", 502, "<html>Bad gateway</html>", "server"),
    (
        "openai_responses",
        400,
        {"error": {"message": "m", "type": "invalid_request_error", "code": "previous_response_not_found"}},
        "not_found",
    ),
    ("openai_responses", 0, {"code": "invalid_prompt", "message": "m"}, "invalid_request"),
    ("openai_responses", 0, {"type": "error", "code": "rate_limit_exceeded", "message": "m"}, "rate_limit"),
    (
        "anthropic",
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"},
        },
        "credits",
    ),
    (
        "anthropic",
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
        "context_length",
    ),
    (
        "anthropic",
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
        "overloaded",
    ),
    (
        "anthropic",
        413,
        {"type": "error", "error": {"type": "request_too_large", "message": "m"}},
        "too_large",
    ),
    ("anthropic", 404, {}, "not_found"),
    (
        "gemini",
        400,
        {
            "error": {
                "code": 400,
                "message": "m",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            }
        },
        "authentication",
    ),
    ("gemini", 429, [{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}], "rate_limit"),
    ("gemini", 0, {"error": {"code": 504, "message": "m", "status": "DEADLINE_EXCEEDED"}}, "timeout"),
    (
        "gemini",
        400,
        {
            "error": {
                "code": 400,
                "message": "The input token count exceeds the maximum number of tokens allowed",
                "status": "INVALID_ARGUMENT",
            }
        },
        "context_length",
    ),
]


@pytest.mark.parametrize(("dialect", "status", "body", "kind"), ERRORS)
def test_errors_are_read_for_what_they_mean(dialect, status, body, kind):
    fault = DIALECTS[dialect].read_error(status, body)
    assert fault.kind == kind
    assert fault.message and "html" not in fault.message


def test_geminis_delay_is_read():
    told = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]
    body = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": told}}
    assert DIALECTS["gemini"].read_error(429, body).retry_after_ms == 34_400


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("code", list(CODES))
def test_every_refusal_has_a_body_in_every_dialect(dialect, code):
    error = GatewayError(code, "what happened", param="temperature", scope="key", retry_after_ms=1500)
    status, body = DIALECTS[dialect].write_error(error, "req_1")
    assert 400 <= status < 600
    assert "What happened." in json.dumps(body) and "req_1" in json.dumps(body)
    inner = body["error"]
    if dialect in ("openai_chat", "openai_responses"):
        assert {"message", "type", "param", "code"} <= inner.keys()
    elif dialect == "anthropic":
        assert body["type"] == "error" and inner["type"].endswith(("_error", "too_large"))
    else:
        assert inner["code"] == status and inner["status"].isupper()
        assert "1.5s" in json.dumps(inner["details"])
    again = DIALECTS[dialect].read_error(status, body)
    assert again.message


@pytest.mark.parametrize(
    ("dialect", "status", "word"),
    [
        ("openai_chat", 402, "insufficient_credits"),
        ("openai_responses", 429, "insufficient_quota"),
        ("anthropic", 402, "billing_error"),
        ("gemini", 402, "RESOURCE_EXHAUSTED"),
    ],
)
def test_lack_of_credits_is_said_as_each_dialects_agents_understand_it(dialect, status, word):
    found, body = DIALECTS[dialect].write_error(GatewayError("insufficient_credits", "m"), "r")
    assert found == status
    assert word in json.dumps(body)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdef123456",
        "AIzaSyA1234567890abc",
        "org-AbCdEf123456",
        "Bearer abc.def",
        "projects/my-project-1",
    ],
)
def test_secrets_do_not_leave(secret):
    assert secret not in redacted(f"Incorrect API key provided: {secret}.")


@pytest.mark.parametrize("kind", ["authentication", "permission", "credits"])
def test_the_gateways_own_trouble_names_no_account(kind):
    error = fault_error(Fault(kind=kind, status=401, message="Your account acct_123 is bad", param="key"))
    assert error.code == "upstream_error" and error.param is None
    assert "acct" not in error.message and "operator" in error.message


def test_the_callers_own_trouble_is_passed_on():
    error = fault_error(Fault(kind="invalid_request", status=400, message="bad stop", param="stop"))
    assert (error.status, error.param, error.message) == (400, "stop", "bad stop")
    assert (
        fault_error(Fault(kind="rate_limit", status=429, message="m", retry_after_ms=5)).retry_after_ms == 5
    )


FAILED = {
    "openai_chat": {"error": {"message": "gone", "code": 502}},
    "openai_responses": {
        "id": "r",
        "object": "response",
        "status": "failed",
        "output": [],
        "error": {"code": "server_error", "message": "gone"},
    },
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": "gone"}},
    "gemini": {"error": {"code": 500, "message": "gone", "status": "INTERNAL"}},
}


@pytest.mark.parametrize("dialect", NAMES)
def test_a_whole_answer_may_report_its_own_failure(dialect):
    with pytest.raises(AnswerFailed) as failed:
        DIALECTS[dialect].read_response(FAILED[dialect], Reading())
    assert isinstance(failed.value.failed, Failed)
    assert failed.value.failed.kind == "server"
    with pytest.raises(BadAnswer):
        DIALECTS[dialect].read_response({"nonsense": 1}, Reading())


def test_usage_before_the_failure_is_shown_to_a_responses_client():
    stream = golden("anthropic", "error_midstream")["stream"]
    writer = DIALECTS["openai_responses"].writer(REPLY)
    reader = DIALECTS["anthropic"].reader(Reading())
    objects = [one for raw in stream for event in reader.feed(raw) for one in writer.send(event)]
    assert objects[-1]["response"]["usage"]["input_tokens"] == 9


def test_citations_count_characters_though_gemini_counts_bytes():
    chat = relayed("gemini", "openai_chat", golden("gemini", "citations")["stream"])
    (annotation,) = next(
        one["choices"][0]["delta"]["annotations"]
        for one in chat[:-1]
        if one["choices"] and "annotations" in one["choices"][0]["delta"]
    )
    text = "Caf\u00e9s open at 8."
    assert annotation["url_citation"]["end_index"] == len(text)
    back = relayed("openai_chat", "gemini", golden("openai_chat", "citations")["stream"])
    segment = back[-1]["candidates"][0]["groundingMetadata"]["groundingSupports"][0]["segment"]
    assert segment["endIndex"] == len(text.encode())


def test_h42_offsets_count_from_the_start_of_the_whole_message():
    content = [
        {"type": "text", "text": "One. "},
        {
            "type": "text",
            "text": "Two.",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://e.x",
                    "title": "t",
                    "cited_text": "Two.",
                    "encrypted_index": "i",
                }
            ],
        },
    ]
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    response = DIALECTS["anthropic"].read_response(body, Reading())
    message = DIALECTS["openai_chat"].write_response(response, REPLY, None)["choices"][0]["message"]
    (annotation,) = message["annotations"]
    assert message["content"][annotation["url_citation"]["start_index"] :] == "Two."
    assert DIALECTS["anthropic"].write_response(response, REPLY, None)["content"] == content


def test_bill_may_replace_the_counts():
    bill = Bill(cost=3, estimated=True, usage=Usage(input=7, output=8))
    for dialect in NAMES:
        usage = shown(dialect, answer(dialect, RAW[dialect]), bill)
        assert usage["estimated"] is True and usage["cost"] == 3
