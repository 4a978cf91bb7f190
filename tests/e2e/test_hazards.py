"""Hazards that only sockets show, each by the number it has in our list, on every cell where it applies."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support import cells, raw_http
from tests.support.cells import (
    CLIENTS,
    SCHEMA,
    SECRET,
    UPSTREAMS,
    ask,
    body_of,
    events_of,
    model_for,
    path_of,
    streamed_text,
    text_of,
    usage_of,
)
from tests.support.gateway import fetch, running, wait_for

CELLS = pytest.mark.parametrize(
    ("client", "behind"), [(client, behind) for client in CLIENTS for behind in UPSTREAMS]
)
NATIVE = pytest.mark.parametrize("dialect", CLIENTS)
STREAM = pytest.mark.parametrize("stream", [False, True])
EXTRA = (
    *("crlf", "drip", "gzip", "big-line", "slow-20", "wrong-model", "leak", "leak-stream", "cookie", "400"),
    *("401", "403", "quota"),
)
AWKWARD = "a\u2028b\u2029c\u0085d \N{GRINNING FACE} e\u0301 \\u0041 \r\n\r\ndata: {}\n\n: x\t\"'"


@pytest.fixture(scope="module")
def wild(tmp_path_factory, upstream):
    """A gateway with a channel of each dialect and the models that are strange on the wire."""
    with running(tmp_path_factory.mktemp("wild") / "data") as found:
        found.cli("credits", "grant", "1000000")
        for name in UPSTREAMS:
            cells.connect(found, name, upstream.url, *EXTRA)
        yield found


def receipt_of(gateway, request_id):
    status, _, body = gateway.get(f"/v1/generations/{request_id}")
    return body if status == 200 else None


def last(upstream):
    """What the upstream was sent last: method, path, headers, body."""
    return fetch(urllib.request.Request(f"{upstream.url}/sandbox/last"))[2]


def send(gateway, path, body, headers, method="POST"):
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return fetch(urllib.request.Request(gateway.url + path, raw, headers, method=method))


def bearer(gateway, **more):
    return {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json", **more}


@CELLS
@pytest.mark.parametrize("name", ["crlf", "drip"])
def test_h11_streams_of_any_form_are_read(wild, client, behind, name):
    status, _, events = ask(wild, client, behind, name, stream=True)
    assert status == 200
    assert not cells.failed_in_band(client, events)
    assert streamed_text(client, events) == text_of(client, ask(wild, client, behind, "chat")[2])


@CELLS
def test_h11_an_event_of_megabytes_is_read(wild, client, behind):
    status, _, events = ask(wild, client, behind, "big-line", stream=True)
    assert status == 200
    assert not cells.failed_in_band(client, events)
    assert usage_of(client, events)["cost"] > 0


@CELLS
@STREAM
def test_h11_line_ends_inside_text_end_no_event(wild, client, behind, stream):
    status, _, answer = ask(wild, client, behind, "echo", stream=stream, **words(client, AWKWARD))
    assert status == 200
    assert (streamed_text if stream else text_of)(client, answer) == AWKWARD


def words(client, text):
    """The member of a body that holds the question."""
    full = body_of(client, "m", text)
    name = {"openai_responses": "input", "gemini": "contents"}.get(client, "messages")
    return {name: full[name]}


@CELLS
async def test_h17_a_client_that_leaves_stops_the_upstream_and_pays_what_was_made(
    wild, upstream, client, behind
):
    model = model_for(behind, "slow-20")
    body = json.dumps(body_of(client, model, stream=True)).encode()
    head = (
        f"POST {path_of(client, model, stream=True)} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {wild.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    async with raw_http.connect(wild.port) as peer:
        await peer.send(head.encode() + body)
        _, headers = await peer.head()
        await peer.reader.readuntil(b"data: ")
        request_id = dict(headers)["x-request-id"]
    receipt = await asyncio.to_thread(wait_for, lambda: receipt_of(wild, request_id))
    calls = [call for call in upstream.stats()["calls"] if call["request_id"] == request_id]
    assert [call["outcome"] for call in calls] == ["cancelled"]
    assert 0 < receipt["net"] <= receipt["held"]
    assert receipt["outcome"] == "cancelled"


@CELLS
@STREAM
def test_h47_thought_is_counted_once(wild, upstream, client, behind, stream):
    _, headers, answer = ask(wild, client, behind, "reasoning", stream=stream, **THINK[client])
    told, request_id = usage_of(client, answer), headers["x-request-id"]
    made = upstream.stats()["generated_tokens"][request_id]
    assert receipt_of(wild, request_id)["usage"]["output_tokens"] == output_of(client, told) == made
    if client != "anthropic":
        assert 0 < thought_of(client, told) < made


THINK = {
    "openai_chat": {"reasoning_effort": "medium"},
    "openai_responses": {"reasoning": {"effort": "medium"}},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000},
    "gemini": {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1024}}},
}


def output_of(client, usage):
    match client:
        case "openai_chat":
            return usage["completion_tokens"]
        case "gemini":
            return usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    return usage["output_tokens"]


def thought_of(client, usage):
    match client:
        case "openai_chat":
            return usage["completion_tokens_details"]["reasoning_tokens"]
        case "openai_responses":
            return usage["output_tokens_details"]["reasoning_tokens"]
        case "gemini":
            return usage["thoughtsTokenCount"]
    return None


@CELLS
@pytest.mark.parametrize(
    ("name", "retry"), [("400", "false"), ("401", "true"), ("500", "true"), ("429", "true")]
)
def test_h50_clients_are_told_whether_to_try_again(wild, client, behind, name, retry):
    status, headers, _ = ask(wild, client, behind, name)
    assert status >= 400
    assert headers["x-should-retry"] == retry


@NATIVE
def test_h50_what_the_client_did_wrong_is_not_worth_another_try(wild, dialect):
    for name, more in (("nobody", {}), ("chat", words(dialect, "") | {"tools": 5})):
        status, headers, _ = ask(wild, dialect, "openai_chat", name, **more)
        assert 400 <= status < 500
        assert headers["x-should-retry"] == "false"


COUNTS = {
    "openai_responses": ("/v1/responses/input_tokens", "input_tokens"),
    "anthropic": ("/v1/messages/count_tokens", "input_tokens"),
    "gemini": ("/v1beta/models/{model}:countTokens", "totalTokens"),
}


@pytest.mark.parametrize("client", COUNTS)
@pytest.mark.parametrize("behind", UPSTREAMS)
@pytest.mark.parametrize("name", ["chat", "500"])
def test_h51_tokens_are_counted_for_any_model_and_cost_nothing(wild, client, behind, name):
    path, field = COUNTS[client]
    model = model_for(behind, name)
    body = words(client, "Hello there, how are you?")
    if client != "gemini":
        body["model"] = model
    before = wild.cli("credits", "balance")["available"]
    status, _, answer = wild.post(body, path=path.format(model=model))
    assert status == 200, answer
    assert 3 < answer[field] < 200
    assert wild.cli("credits", "balance")["available"] == before


KEYS = {
    "openai_chat": "Authorization",
    "openai_responses": "Authorization",
    "anthropic": "x-api-key",
    "gemini": "x-goog-api-key",
}
OURS = {
    "cookie": "session=client-canary",
    "x-forwarded-for": "203.0.113.9",
    "te": "trailers",
    "accept-encoding": "gzip, br",
    "proxy-authorization": "Basic client-canary",
    "openai-organization": "org-client-canary",
    "x-stainless-lang": "client-canary",
    "openai-beta": "client-openai-beta",
    "anthropic-beta": "client-anthropic-beta",
    "anthropic-version": "2023-06-01",
}
PASSES = {
    "openai_chat": {"openai-beta"},
    "openai_responses": {"openai-beta"},
    "anthropic": {"anthropic-beta", "anthropic-version"},
    "gemini": set(),
}


@CELLS
@STREAM
def test_h52_no_header_of_a_client_reaches_an_upstream_but_its_own_dialects(
    wild, upstream, client, behind, stream
):
    model = model_for(behind, "chat")
    key = f"Bearer {wild.key}" if KEYS[client] == "Authorization" else wild.key
    headers = {**OURS, KEYS[client]: key, "Content-Type": "application/json"}
    status, _, _ = send(
        wild, path_of(client, model, stream=stream), body_of(client, model, stream=stream), headers
    )
    assert status == 200
    sent = last(upstream)
    found = sent["headers"]
    assert wild.key not in json.dumps(sent)
    assert "canary" not in json.dumps(sent).replace(SECRET, "")
    passed = PASSES[client] if client == behind else set()
    for name, value in OURS.items():
        if name in passed:
            assert found[name] == value
        else:
            assert found.get(name) != value or (name == "anthropic-version" and behind == "anthropic")
    assert found["host"] == upstream.url.removeprefix("http://")
    assert ("x-api-key" in found, "x-goog-api-key" in found, "authorization" in found) == (
        behind == "anthropic",
        behind == "gemini",
        behind.startswith("openai"),
    )


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_h52_a_key_in_the_query_goes_nowhere(wild, upstream, behind):
    model = model_for(behind, "chat")
    path = path_of("gemini", model, stream=True) + f"&key={wild.key}"
    body = body_of("gemini", model, stream=True)
    status, _, _ = send(wild, path, body, {"Content-Type": "application/json"})
    assert status == 200
    assert "key=" not in last(upstream)["path"]
    logged = (wild.data.parent / f"{wild.data.name}.stderr").read_text()
    assert wild.key not in logged


@NATIVE
@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_h52_a_compressed_body_is_read(wild, dialect, coding, pack):
    model = model_for(dialect, "chat")
    body = pack(json.dumps(body_of(dialect, model)).encode())
    headers = bearer(wild, **{"Content-Encoding": coding})
    assert send(wild, path_of(dialect, model, stream=False), body, headers)[0] == 200


FORMS = {
    "openai_chat": [
        *("/v1/chat/completions", "/chat/completions", "/api/v1/chat/completions"),
        *("/openai/v1/chat/completions", "/v1/chat/completions?beta=true&limit=1000"),
    ],
    "openai_responses": [
        *("/v1/responses", "/responses", "/openai/v1/responses", "/v1/responses?beta=true"),
    ],
    "anthropic": [
        *("/v1/messages", "/v1/messages?beta=true", "/anthropic/v1/messages"),
    ],
    "gemini": [
        *("/v1beta/models/{m}:generateContent", "/v1/models/{m}:generateContent"),
        *("/gemini/v1beta/models/{m}:generateContent", "/v1beta/models/{m}:generateContent?alt=json"),
        "/v1beta/models/{q}:generateContent?$alt=json;enum-encoding=int",
    ],
}


@pytest.mark.parametrize(
    ("dialect", "form"), [(dialect, form) for dialect, forms in FORMS.items() for form in forms]
)
def test_h53_a_base_url_may_be_written_in_any_usual_way(wild, dialect, form):
    model = model_for(dialect, "chat")
    path = form.format(m=model, q=model.replace("/", "%2F"))
    status, _, answer = send(wild, path, body_of(dialect, model), bearer(wild))
    assert status == 200, (path, answer)
    assert "Hello!" in text_of(dialect, answer)


@pytest.mark.parametrize("ending", ["chat/completions", "responses", "messages"])
@pytest.mark.parametrize("form", ["/v1/v1/{0}", "/v1/{0}/", "/v1//{0}"])
def test_h53_a_wrong_url_is_refused_with_words_and_in_the_dialect(wild, form, ending):
    status, _, answer = send(wild, form.format(ending), {}, bearer(wild))
    assert status == 404
    assert answer["error"]["message"]
    # Each dialect's clients look for the error where it always is; a path that is none has no dialect.
    assert "//" in form or (answer.get("type") == "error") == (ending == "messages")


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_h54_probes_are_answered_without_a_key(wild, path):
    for method, size in (("HEAD", 0), ("GET", 1)):
        connection = http.client.HTTPConnection("127.0.0.1", wild.port, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(answer.read()) >= size
        # The connection is fit for the message that follows the probe.
        connection.request(method, path)
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/models"])
def test_h54_a_head_request_never_has_a_body_nor_an_error_of_ours(wild, path):
    connection = http.client.HTTPConnection("127.0.0.1", wild.port, timeout=20)
    connection.request("HEAD", path, headers={"x-api-key": wild.key})
    answer = connection.getresponse()
    assert answer.status < 500
    assert answer.read() == b""
    connection.close()


@CELLS
def test_h54_calls_beside_each_other_do_not_mix(wild, client, behind):
    def one(number):
        text = f"title request {number}"
        return text, text_of(client, ask(wild, client, behind, "echo", **words(client, text))[2])

    with ThreadPoolExecutor(4) as pool:
        for asked, answered in pool.map(one, range(8)):
            assert asked == answered


@pytest.mark.parametrize("behind", UPSTREAMS)
def test_h54_a_router_model_answers_in_the_json_that_was_asked_for(wild, behind):
    config = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    answer = ask(wild, "gemini", behind, "chat", generationConfig=config)[2]
    assert set(json.loads(text_of("gemini", answer))) == {"city", "days"}


@CELLS
@STREAM
def test_h55_the_models_name_and_the_id_are_ours_in_every_event(wild, client, behind, stream):
    status, headers, answer = ask(wild, client, behind, "wrong-model", stream=stream)
    assert status == 200
    told = [one for one in (answer if stream else [answer]) if isinstance(one, dict)]
    names = {name for one in told for name in named(one)}
    assert names == {model_for(behind, "wrong-model")}
    assert headers["x-tollway-model"] == model_for(behind, "wrong-model")
    assert "sandbox-" not in json.dumps(told)
    assert receipt_of(wild, headers["x-request-id"])["attempts"][0]["upstream_model"] == "sandbox-wrong-model"


def named(one):
    """The models an object names, wherever its dialect does so."""
    found = [one.get("model"), one.get("modelVersion")]
    found += [one[name].get("model") for name in ("response", "message") if isinstance(one.get(name), dict)]
    return [name for name in found if name]


@CELLS
@STREAM
@pytest.mark.parametrize("name", ["leak", "leak-stream", "cookie", "401", "403", "quota"])
def test_h55_nothing_of_the_operators_account_reaches_a_client(wild, client, behind, stream, name):
    _, headers, answer = ask(wild, client, behind, name, stream=stream)
    told = json.dumps(answer) + str(headers)
    assert SECRET not in told
    assert "canary" not in told
    assert "sandbox_secret" not in told
    assert "org-sandbox" not in told
    assert "set-cookie" not in headers
    assert headers["x-request-id"].startswith("req_")


@NATIVE
def test_h55_an_upstreams_own_request_id_is_not_taken_for_ours(wild, dialect):
    ids = {ask(wild, dialect, dialect, "chat")[1]["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_events_are_read_the_way_clients_read_them():
    assert events_of(b'data: {"a": 1}\r\n\r\ndata: [DONE]\r\n\r\n') == [{"a": 1}, "[DONE]"]
