"""Every model that misbehaves does so on the wire exactly as documented, streamed and whole."""

import json
import time
import zlib
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from tests.upstream.sandbox.raw import CHAT, post, question

from tollway.upstream.sandbox import models

ENVELOPE = {"message", "type", "param", "code"}
GOOD = "You said:"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code", "retry_after"),
    [
        ("sandbox-400", 400, "context_length_exceeded", None),
        ("sandbox-401", 401, "invalid_api_key", None),
        ("sandbox-403", 403, "model_access_denied", None),
        ("sandbox-404", 404, "model_not_found", None),
        ("sandbox-413", 413, "request_too_large", None),
        ("sandbox-429", 429, "rate_limit_exceeded", "2"),
        ("sandbox-429-body", 429, "rate_limit_exceeded", None),
        ("sandbox-500", 500, None, None),
        ("sandbox-503", 503, "server_is_overloaded", None),
    ],
)
def test_error_statuses(sandbox, model, status, code, retry_after, stream):
    answer = sandbox.ask(model, stream=stream)
    error = answer.json()["error"]
    assert (answer.status, answer.end, error["code"], answer.header("retry-after")) == (
        status,
        "complete",
        code,
        retry_after,
    )
    assert error.keys() == ENVELOPE and answer.header("content-type") == "application/json"
    assert ("try again in 2s" in error["message"]) == (model == "sandbox-429-body")


def test_retry_after_as_a_date(sandbox):
    answer = sandbox.ask("sandbox-429-date")
    when = parsedate_to_datetime(answer.header("retry-after")).timestamp()
    assert answer.status == 429 and abs(when - time.time()) < 60


def test_flaky_fails_every_other_time(sandbox):
    assert [sandbox.ask("sandbox-flaky").status for _ in range(4)] == [500, 200, 500, 200]


@pytest.mark.parametrize(("model", "status"), [("sandbox-leak", 400), ("sandbox-leak-stream", 200)])
def test_leaks_repeat_the_credential(sandbox, model, status):
    secret = {"authorization": "Bearer sk-very-secret"}
    for stream in (False, True):
        answer = sandbox.fetch(post(question(model, stream=stream), headers=secret))
        assert answer.status == status and b"Bearer sk-very-secret" in answer.body


@pytest.mark.parametrize(("model", "status"), [("sandbox-html", 200), ("sandbox-html-502", 502)])
@pytest.mark.parametrize("stream", [False, True])
def test_pages(sandbox, model, status, stream):
    answer = sandbox.ask(model, stream=stream)
    assert (answer.status, answer.header("content-type")) == (status, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!DOCTYPE html>")


# Per model: how the response ends, whether it has a finish reason, whether it ends with [DONE].
STREAMS = {
    "sandbox-cut": ("eof", False, False),
    "sandbox-cut-clean": ("complete", False, False),
    "sandbox-rst-mid": ("reset", False, False),
    "sandbox-bad-chunk": ("bad", False, False),
    "sandbox-no-done": ("complete", True, False),
    "sandbox-close": ("closed", True, True),
    "sandbox-crlf": ("complete", True, True),
    "sandbox-cookie": ("complete", True, True),
    "sandbox-drip": ("complete", True, True),
    "sandbox-wrong-model": ("complete", True, True),
    "sandbox-no-usage": ("complete", True, True),
    "sandbox-double-usage": ("complete", True, True),
    "sandbox-big-line": ("complete", True, True),
    "sandbox-after-finish": ("complete", True, True),
    "sandbox-slow-1": ("complete", True, True),
}


@pytest.mark.parametrize(("model", "ending"), STREAMS.items(), ids=STREAMS)
def test_how_streams_end(sandbox, model, ending):
    answer = sandbox.ask(model, stream=True)
    finished = any(choice["finish_reason"] for chunk in answer.chunks() for choice in chunk["choices"])
    assert answer.status == 200 and (answer.end, finished, answer.payloads()[-1] == "[DONE]") == ending
    said = answer.text()
    assert said.startswith(GOOD) and (finished or said == GOOD)


WHOLES = {
    "sandbox-cut": ("eof", False),
    "sandbox-cut-clean": ("complete", False),
    "sandbox-rst-mid": ("reset", False),
    "sandbox-bad-chunk": ("bad", False),
    "sandbox-bad-json": ("complete", False),
    "sandbox-empty": ("complete", False),
    "sandbox-no-done": ("complete", True),
    "sandbox-close": ("closed", True),
    "sandbox-crlf": ("complete", True),
    "sandbox-cookie": ("complete", True),
    "sandbox-drip": ("complete", True),
    "sandbox-json-for-sse": ("complete", True),
    "sandbox-big-line": ("complete", True),
    "sandbox-slow-1": ("complete", True),
}


@pytest.mark.parametrize(("model", "ending"), WHOLES.items(), ids=WHOLES)
def test_how_whole_answers_end(sandbox, model, ending):
    answer = sandbox.ask(model)
    try:
        readable = answer.json()["choices"][0]["message"]["content"].startswith(GOOD)
    except ValueError:
        readable = False
    assert answer.status == 200 and (answer.end, readable) == ending


@pytest.mark.parametrize("stream", [False, True])
def test_cut_after_so_many_bytes(sandbox, stream):
    # The model's name is in the body, so names of equal length make bodies of equal length.
    whole = sandbox.ask("sandbox-cut-9999999", stream=stream)
    assert whole.end == "complete"
    for size in (0, 1, 500):
        cut = sandbox.ask(f"sandbox-cut-{size}", stream=stream)
        assert (cut.status, cut.end, len(cut.body)) == (200, "eof", size)


@pytest.mark.parametrize("stream", [False, True])
def test_reset_before_the_head(sandbox, stream):
    answer = sandbox.ask("sandbox-rst", stream=stream)
    assert (answer.status, answer.body, answer.end) == (0, b"", "reset")


@pytest.mark.parametrize("stream", [False, True])
def test_hang(sandbox, stream):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-hang", stream=stream)))
        sandbox.wait_stats(in_flight=1)
        assert raw.silent()
    assert sandbox.wait_stats(cancelled=1, in_flight=0)["calls"][0]["generated_tokens"] == 0


def test_stalled_stream(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-stall", stream=True)))
        raw.wait_for(b"data: ", times=4)
        assert raw.silent()
    assert sandbox.wait_stats(cancelled=1)["calls"][0]["generated_tokens"] == 3


def test_stalled_whole_answer(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-stall")))
        raw.wait_for(b'"choices"')
        assert raw.silent()
    sandbox.wait_stats(cancelled=1)


def test_empty_stream(sandbox):
    answer = sandbox.ask("sandbox-empty", stream=True)
    assert (answer.status, answer.header("content-type")[:17], answer.body) == (200, "text/event-stream", b"")


def test_json_although_a_stream_was_asked_for(sandbox):
    answer = sandbox.ask("sandbox-json-for-sse", stream=True)
    assert (
        answer.header("content-type") == "application/json" and answer.json()["object"] == "chat.completion"
    )


def test_bad_json_in_the_third_token(sandbox):
    payloads = sandbox.ask("sandbox-bad-json", stream=True).payloads()
    bad = [at for at, payload in enumerate(payloads[:-1]) if not _parses(payload)]
    assert bad == [3] and payloads[-1] == "[DONE]"


def _parses(text):
    try:
        return bool(json.loads(text))
    except ValueError:
        return False


@pytest.mark.parametrize("stream", [False, True])
def test_gzip_nobody_asked_for(sandbox, stream):
    answer = sandbox.fetch(
        post(question("sandbox-gzip", stream=stream), headers={"accept-encoding": "identity"})
    )
    assert answer.header("content-encoding") == "gzip"
    plain = zlib.decompress(answer.body, wbits=31)
    assert plain.endswith(b"data: [DONE]\n\n") if stream else json.loads(plain)["choices"]


def test_crlf_comments_and_pings(sandbox):
    body = sandbox.ask("sandbox-crlf", stream=True).body
    assert body.startswith(b": SANDBOX PROCESSING\r\n\r\ndata:{")
    assert b"\r\n\r\nevent: ping\r\n\r\n" in body and body.endswith(b"data:[DONE]\r\n\r\n")
    assert b"\n" not in body.replace(b"\r\n", b"")


def test_big_line(sandbox):
    sizes = sorted(len(payload) for payload in sandbox.ask("sandbox-big-line", stream=True).payloads())
    assert sizes[-1] > 2 * 1024 * 1024 > 1000 > sizes[-2]


def test_cookies_and_provider_headers(sandbox):
    names = [name for name, _ in sandbox.ask("sandbox-cookie").headers]
    assert names.count("set-cookie") == 2 and "openai-organization" in names


@pytest.mark.parametrize(
    ("model", "said"), [("sandbox-first-error", None), ("sandbox-midstream-error", "You said:")]
)
def test_in_band_errors(sandbox, model, said):
    answer = sandbox.ask(model, stream=True)
    *before, last = answer.chunks()
    assert (answer.status, answer.end, "[DONE]" in answer.payloads()) == (200, "complete", False)
    assert last["error"].keys() == ENVELOPE and last["error"]["code"] == "server_error"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in before) == (said or "")
    whole = sandbox.ask(model)
    assert whole.status == 200 and whole.json()["error"]["code"] == "server_error"


def test_empty_choice(sandbox):
    answer = sandbox.ask("sandbox-empty-choice", stream=True)
    assert answer.text() == "" and answer.chunks()[-1]["choices"][0]["finish_reason"] == "stop"
    assert sandbox.ask("sandbox-empty-choice").json()["choices"][0]["message"]["content"] == ""


def test_content_after_finish(sandbox):
    chunks = sandbox.ask("sandbox-after-finish", stream=True).chunks()
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"][0]["delta"] == {"content": " And one more thing."}


def test_wrong_model_and_changing_id(sandbox):
    chunks = sandbox.ask("sandbox-wrong-model", stream=True).chunks()
    assert {chunk["model"] for chunk in chunks} == {"some-other-model"}
    assert len({chunk["id"] for chunk in chunks}) == len(chunks)
    assert sandbox.ask("sandbox-wrong-model").json()["model"] == "some-other-model"


def test_tool_calls_without_index(sandbox):
    tools = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]
    chunks = sandbox.ask("sandbox-tool-index", stream=True, tools=tools).chunks()
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["function"]["name"] for call in calls if "id" in call] == ["one", "two"]
    assert not any("index" in call for call in calls)


def usages(sandbox, model):
    stream = sandbox.ask(model, stream=True, stream_options={"include_usage": True}).chunks()
    return [chunk["usage"] for chunk in stream if chunk.get("usage")], sandbox.ask(model).json().get("usage")


def test_no_usage(sandbox):
    assert usages(sandbox, "sandbox-no-usage") == ([], None)


def test_bad_usage(sandbox):
    bad = {"prompt_tokens": -7, "completion_tokens": "12", "total_tokens": 4.5}
    assert usages(sandbox, "sandbox-bad-usage") == ([bad], bad)


def test_absurd_usage(sandbox):
    absurd = {"prompt_tokens": 2**63, "completion_tokens": 2**64 - 1, "total_tokens": 1e30}
    assert usages(sandbox, "sandbox-bad-usage-absurd") == ([absurd], absurd)


def test_running_totals(sandbox):
    streamed, whole = usages(sandbox, "sandbox-double-usage")
    counts = [usage["completion_tokens"] for usage in streamed]
    last = whole["completion_tokens"]
    assert counts == [*range(1, last + 1), last, last, last]
    assert all(
        usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in streamed
    )


def test_slow_models_wait_before_each_token(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-slow-60000", stream=True)))
        raw.wait_for(b"data: ")
        assert raw.silent()
    assert sandbox.wait_stats(cancelled=1)["calls"][0]["generated_tokens"] == 0


def test_slow_models_can_be_told_how_many_tokens(sandbox):
    body = sandbox.ask("sandbox-slow-0-77").json()
    assert body["usage"]["completion_tokens"] == 77
    assert sandbox.stats()["calls"][0]["generated_tokens"] == 77


UNSEEN = {"sandbox-slow"}  # two seconds long; its timing is the same code as sandbox-slow-N


def test_every_misbehaving_model_is_tested(sandbox):
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    names = {model.id for model in models.MODELS if model.misbehaves} - UNSEEN
    assert {name for name in names if f'"{name}"' not in source} == set()


def test_other_prefixes_reach_the_models(sandbox):
    for path in ("/chat/completions", "/api/openai/v1/chat/completions", CHAT + "?api-version=1"):
        assert sandbox.fetch(post(question("sandbox-chat"), path)).status == 200
