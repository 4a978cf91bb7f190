"""One brain, four dialects: the same question gets the same words, counts and faults in each."""

import json

import pytest
from tests.upstream.sandbox.dialects import DIALECTS, FOREIGN, ask, said
from tests.upstream.sandbox.raw import get, post

each = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
each_foreign = pytest.mark.parametrize("dialect", FOREIGN, ids=lambda dialect: dialect.name)

CASES = {
    "plain": ("sandbox-chat", "Hello", {}),
    "several bytes": ("sandbox-echo", "日本 🙂\u2028text", {}),
    "reasoning": ("sandbox-reasoning", "Hello", {}),
    "tool": ("sandbox-chat", "What is the weather?", {"tools": ("get_weather", "get_time")}),
    "parallel tools": ("sandbox-chat", "weather and time", {"tools": ("get_weather", "get_time")}),
    "reasoned tools": ("sandbox-reasoning", "weather and time", {"tools": ("get_weather", "get_time")}),
    "length": ("sandbox-long", "Hello", {"most": 20}),
    "cut reasoning": ("sandbox-reasoning", "Hello", {"most": 20}),
    "filter": ("sandbox-filter", "Hello", {}),
    "long": ("sandbox-tokens-300", "Hello", {}),
    "citation": ("sandbox-citation", "Hello", {}),
    "slow": ("sandbox-slow-1-5", "Hello", {}),
    "cookie": ("sandbox-cookie", "Hello", {}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@each_foreign
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_dialect_says_what_chat_says(sandbox, case, dialect, stream):
    model, text, fields = case
    expected = said(sandbox, DIALECTS[0], model, text, **fields)
    found = said(sandbox, dialect, model, text, stream=stream, **fields)
    assert found[:4] == expected[:4] and found.output == expected.output
    if "tools" not in fields:
        assert found.input == expected.input


@each_foreign
def test_generated_tokens_are_recorded(sandbox, dialect):
    for stream in (False, True):
        counted = said(sandbox, dialect, "sandbox-reasoning", stream=stream).output
        assert sandbox.stats()["calls"][-1]["generated_tokens"] == counted


# Model: what each dialect answers with. Anthropic's type, Gemini's status, and their HTTP statuses.
REFUSED = {
    "sandbox-400": ((400, "invalid_request_error"), (400, "INVALID_ARGUMENT"), 400),
    "sandbox-401": ((401, "authentication_error"), (400, "INVALID_ARGUMENT"), 401),
    "sandbox-403": ((403, "permission_error"), (403, "PERMISSION_DENIED"), 403),
    "sandbox-404": ((404, "not_found_error"), (404, "NOT_FOUND"), 400),
    "sandbox-413": ((413, "request_too_large"), (400, "INVALID_ARGUMENT"), 413),
    "sandbox-429": ((429, "rate_limit_error"), (429, "RESOURCE_EXHAUSTED"), 429),
    "sandbox-429-body": ((429, "rate_limit_error"), (429, "RESOURCE_EXHAUSTED"), 429),
    "sandbox-500": ((500, "api_error"), (500, "INTERNAL"), 500),
    "sandbox-503": ((529, "overloaded_error"), (503, "UNAVAILABLE"), 503),
    "sandbox-quota": ((402, "billing_error"), (429, "RESOURCE_EXHAUSTED"), 429),
    "sandbox-nonesuch": ((404, "not_found_error"), (404, "NOT_FOUND"), 400),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("model", "expected"), REFUSED.items(), ids=REFUSED)
def test_error_statuses_are_the_dialects_own(sandbox, model, expected, stream):
    _, responses, anthropic, gemini, _ = DIALECTS
    answer = ask(sandbox, anthropic, model, stream=stream)
    body = answer.json()
    assert (answer.status, body["error"]["type"]) == expected[0]
    assert body.keys() == {"type", "error", "request_id"} and body["type"] == "error"
    answer = ask(sandbox, gemini, model, stream=stream)
    error = answer.json()["error"]
    assert (answer.status, error["status"]) == expected[1] and error["code"] == answer.status
    answer = ask(sandbox, responses, model, stream=stream)
    assert answer.status == expected[2] and answer.json()["error"].keys() == {
        "message",
        "type",
        "param",
        "code",
    }


def test_out_of_credits_in_chat_is_insufficient_quota(sandbox):
    answer = sandbox.ask("sandbox-quota")
    assert (answer.status, answer.json()["error"]["type"]) == (429, "insufficient_quota")
    assert answer.header("retry-after") is None


def test_gemini_says_when_to_come_back_in_the_body(sandbox):
    def details(model):
        answer = ask(sandbox, DIALECTS[3], model)
        assert answer.header("retry-after") is None
        return {one["@type"].rpartition(".")[2]: one for one in answer.json()["error"]["details"]}

    assert details("sandbox-429")["RetryInfo"]["retryDelay"] == "2s"
    assert details("sandbox-429").keys() == {"QuotaFailure", "RetryInfo"}
    assert details("sandbox-quota").keys() == {"QuotaFailure"}
    assert details("sandbox-401")["ErrorInfo"]["reason"] == "API_KEY_INVALID"


# How a response ends, streamed and whole, whatever the dialect.
ENDS = {
    "sandbox-cut": ("eof", "eof"),
    "sandbox-cut-clean": ("complete", "complete"),
    "sandbox-cut-100": ("eof", "eof"),
    "sandbox-rst": ("reset", "reset"),
    "sandbox-rst-mid": ("reset", "reset"),
    "sandbox-bad-chunk": ("bad", "bad"),
    "sandbox-bad-json": ("complete", "complete"),
    "sandbox-empty": ("complete", "complete"),
}


@pytest.mark.parametrize(("model", "ends"), ENDS.items(), ids=ENDS)
@each_foreign
def test_broken_answers(sandbox, dialect, model, ends):
    for stream, end in zip((True, False), ends, strict=True):
        answer = ask(sandbox, dialect, model, stream=stream)
        assert answer.end == end
        with pytest.raises((ValueError, AssertionError, LookupError)):
            dialect.whole(dialect.fold(dialect.events(answer)) if stream else answer.json())


@pytest.mark.parametrize("model", ["sandbox-crlf", "sandbox-drip", "sandbox-close", "sandbox-big-line"])
@each_foreign
def test_odd_but_readable_answers(sandbox, dialect, model):
    for stream in (False, True):
        answer = ask(sandbox, dialect, model, stream=stream)
        events = answer.json() if not stream or dialect.name == "gemini array" else answer.chunks()
        found = dialect.whole(dialect.fold(events) if stream else events)
        assert found.text.startswith("You said:") and answer.end in ("complete", "closed")


@each_foreign
def test_html_gzip_and_json_for_a_stream(sandbox, dialect):
    assert ask(sandbox, dialect, "sandbox-html", stream=True).body.startswith(b"<!DOCTYPE html>")
    assert ask(sandbox, dialect, "sandbox-gzip", stream=True).body[:2] == b"\x1f\x8b"
    answer = ask(sandbox, dialect, "sandbox-json-for-sse", stream=True)
    assert dialect.whole(answer.json()).text.startswith("You said:")


@each_foreign
def test_stalled_streams_send_three_tokens(sandbox, dialect):
    with sandbox.connect() as raw:
        raw.send(dialect.request("sandbox-stall", "Hello", stream=True))
        raw.wait_for(b"You")
        sandbox.wait_stats(in_flight=1)
    assert sandbox.wait_stats(cancelled=1)["calls"][0]["generated_tokens"] == 3


IN_BAND = {
    "sandbox-first-error": ("api_error", "INTERNAL", "server_error"),
    "sandbox-midstream-error": ("api_error", "INTERNAL", "server_error"),
    "sandbox-first-overloaded": ("overloaded_error", "UNAVAILABLE", "server_is_overloaded"),
    "sandbox-first-quota": ("billing_error", "RESOURCE_EXHAUSTED", "insufficient_quota"),
}


@pytest.mark.parametrize(("model", "names"), IN_BAND.items(), ids=IN_BAND)
def test_errors_inside_a_stream(sandbox, model, names):
    before = 4 if model == "sandbox-midstream-error" else 1
    chat, responses, anthropic, gemini, array = DIALECTS
    answer = ask(sandbox, chat, model, stream=True)
    assert answer.chunks()[-1]["error"]["code"] == names[2] and answer.payloads()[-1] != "[DONE]"
    events = ask(sandbox, anthropic, model, stream=True).chunks()
    assert events[-1]["type"] == "error" and events[-1]["error"]["type"] == names[0]
    assert (len(events) > 1) == (before > 1)
    answer = ask(sandbox, gemini, model, stream=True)
    assert (
        answer.payloads()[-1].startswith('{"error":') and answer.chunks()[-1]["error"]["status"] == names[1]
    )
    assert len(answer.chunks()) == before
    elements = ask(sandbox, array, model, stream=True).json()
    assert elements[-1]["error"]["status"] == names[1] and len(elements) == before
    events = ask(sandbox, responses, model, stream=True).chunks()
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["error"]["code"] == events[-1]["response"]["error"]["code"] == names[2]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_errors_with_status_200(sandbox):
    chat, responses, anthropic, gemini, _ = DIALECTS
    bodies = [ask(sandbox, one, "sandbox-first-error").json() for one in (chat, responses, anthropic, gemini)]
    assert bodies[0]["error"]["code"] == "server_error"
    assert bodies[1]["status"] == "failed" and bodies[1]["error"]["code"] == "server_error"
    assert bodies[2]["type"] == "error" and bodies[3]["error"]["code"] == 500


@each
def test_the_bad_key_is_refused_however_it_is_sent(sandbox, dialect):
    good = dialect.request("sandbox-chat", "Hello", stream=False)
    for name in ("authorization: Bearer ", "x-api-key: ", "x-goog-api-key: "):
        head, body = (
            good.replace(b"x-api-key: any\r\n", b"")
            .replace(b"x-goog-api-key: any\r\n", b"")
            .split(b"\r\n\r\n", 1)
        )
        answer = sandbox.fetch(head + f"\r\n{name}sandbox-bad-key\r\n\r\n".encode() + body)
        assert answer.status == (400 if dialect.name.startswith("gemini") else 401), answer.body
    if dialect.name == "gemini":
        assert (
            sandbox.fetch(
                post({"contents": []}, "/v1/models/sandbox-chat:generateContent?key=sandbox-bad-key")
            ).status
            == 400
        )


@each
def test_leaks_repeat_the_credential(sandbox, dialect):
    request = dialect.request("sandbox-leak", "Hello", stream=False)
    secret = b"\r\nauthorization: Bearer sk-very-secret\r\n\r\n"
    head, body = request.split(b"\r\n\r\n", 1)
    assert b"sk-very-secret" in sandbox.fetch(head + secret + body).body


@each
def test_bodies_that_are_no_json(sandbox, dialect):
    request = dialect.request("sandbox-chat", "Hello", stream=False)
    head = request.split(b"\r\n\r\n", 1)[0].decode()
    for body in (b"", b"{", b"[]", b"null", b'{"model": "sandbox-chat"}', b"[" * 5000, b'"\xff"'):
        lines = [
            f"content-length: {len(body)}" if line.startswith("content-length") else line
            for line in head.split("\r\n")
        ]
        answer = sandbox.fetch("\r\n".join([*lines, "", ""]).encode() + body)
        assert answer.status == 400 and "error" in answer.json()


def test_any_prefix_serves_as_a_base_url(sandbox):
    for prefix in ("", "/v1", "/anthropic/v1"):
        head = {"anthropic-version": "2023-06-01"}
        body = {"model": "sandbox-chat", "max_tokens": 16, "messages": [{"role": "user", "content": "x"}]}
        assert sandbox.fetch(post(body, f"{prefix}/messages", head)).status == 200
        assert (
            sandbox.fetch(post({"model": "sandbox-chat", "input": "x"}, f"{prefix}/responses")).status == 200
        )
        contents = {"contents": {"parts": {"text": "x"}}}
        assert sandbox.fetch(post(contents, f"{prefix}/models/sandbox-chat%3AgenerateContent")).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status", "where"),
    [
        ("/v1/messages", {}, 405, "type"),
        ("/v1/nothing", {"anthropic-version": "2023-06-01"}, 404, "type"),
        ("/v1beta/nothing", {}, 404, "error"),
        ("/v1beta/models/sandbox-chat:doSomething", {}, 404, "error"),
        ("/v1/responses", {}, 405, "error"),
    ],
)
def test_wrong_methods_and_paths(sandbox, path, headers, status, where):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = sandbox.fetch(get(path)[:-2] + lines.encode() + b"\r\n")
    assert answer.status == status and where in answer.json()


def test_models_are_listed_for_whoever_asks(sandbox):
    def listed(path, **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return sandbox.fetch(get(path)[:-2] + lines.encode() + b"\r\n").json()

    assert listed("/v1/models")["data"][0]["object"] == "model"
    anthropic = listed("/v1/models", anthropic_version="2023-06-01")
    assert anthropic["data"][0]["type"] == "model" and anthropic["has_more"] is False
    for found in (
        listed("/v1/models", x_goog_api_key="k"),
        listed("/v1beta/models"),
        listed("/v1/models?key=k"),
    ):
        assert found["models"][0]["name"] == "models/sandbox-chat"
    assert listed("/v1beta/models/sandbox-embed")["supportedGenerationMethods"] == ["embedContent"]


def test_kinds_of_work_are_kept_apart(sandbox):
    assert sandbox.ask("sandbox-embed").json()["error"]["code"] == "model_not_supported"
    answer = sandbox.fetch(post({"model": "sandbox-chat", "input": "x"}, "/v1/embeddings"))
    assert answer.json()["error"]["code"] == "model_not_supported"


COUNTS = {
    "anthropic": (
        "/v1/messages/count_tokens",
        {"model": "{}", "messages": [{"role": "user", "content": "Hello"}]},
    ),
    "responses": ("/v1/responses/input_tokens", {"model": "{}", "input": "Hello"}),
    "gemini": ("/v1beta/models/{}:countTokens", {"contents": [{"parts": [{"text": "Hello"}]}]}),
    "gemini wrapped": (
        "/v1/models/{}:countTokens",
        {"generateContentRequest": {"model": "models/{}", "contents": [{"parts": [{"text": "Hello"}]}]}},
    ),
}


@pytest.mark.parametrize(("path", "body"), COUNTS.values(), ids=COUNTS)
def test_counting(sandbox, path, body):
    def count(model):
        given = json.loads(json.dumps(body).replace("{}", model))
        return sandbox.fetch(post(given, path.replace("{}", model), {"anthropic-version": "2023-06-01"}))

    found = count("sandbox-chat").json()
    assert 5 in found.values()
    assert count("sandbox-500").status == 500 and count("sandbox-html").body.startswith(b"<!DOCTYPE")
    assert count("sandbox-nonesuch").status in (400, 404)


def test_keys_in_the_address_are_masked(sandbox):
    sandbox.fetch(post({"contents": []}, "/v1/models/sandbox-chat:generateContent?key=very-secret&alt=sse"))
    last = sandbox.fetch(get("/sandbox/last")).json()
    assert last["path"] == "/v1/models/sandbox-chat:generateContent?key=***&alt=sse"
