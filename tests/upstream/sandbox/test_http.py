"""The sandbox's HTTP: framing, limits, keep-alive, pipelining, and what it counts."""

import json

import pytest
from tests.upstream.sandbox.raw import CHAT, get, post, question

from tollway.upstream.sandbox import models
from tollway.upstream.sandbox.service import BAD_KEY

HELLO = json.dumps(question("sandbox-echo")).encode()


def chunked(body, size):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        + framed
        + b"0\r\n\r\n"
    )


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunked_request_bodies(sandbox, size):
    assert sandbox.fetch(chunked(HELLO, size)).json()["choices"][0]["message"]["content"] == "Hello"


def test_a_request_in_single_bytes(sandbox):
    with sandbox.connect() as raw:
        for byte in post(HELLO):
            raw.send(bytes([byte]))
        assert raw.read().status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_keep_alive(sandbox, stream):
    with sandbox.connect() as raw:
        for number in range(5):
            raw.send(post(question("sandbox-echo", f"number {number}", stream=stream)))
            answer = raw.read()
            said = answer.text() if stream else answer.json()["choices"][0]["message"]["content"]
            assert said == f"number {number}"


def test_pipelined_requests_are_answered_in_order(sandbox):
    with sandbox.connect() as raw:
        raw.send(b"".join(post(question("sandbox-echo", f"n{n}", stream=n % 3 == 0)) for n in range(100)))
        for n in range(100):
            answer = raw.read()
            said = answer.text() if n % 3 == 0 else answer.json()["choices"][0]["message"]["content"]
            assert said == f"n{n}"
    assert sandbox.stats()["completed"] == 100


def test_connection_close_is_honoured(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(HELLO, headers={"connection": "close"}))
        answer = raw.read()
        assert answer.status == 200 and answer.header("connection") == "close"
        assert raw.socket.recv(1) == b""


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0(sandbox, stream):
    answer = sandbox.fetch(post(question("sandbox-echo", stream=stream)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert answer.status == 200 and answer.header("transfer-encoding") is None
    assert answer.end == ("closed" if stream else "complete")


def test_expect_continue(sandbox):
    head, _, body = post(HELLO, headers={"expect": "100-continue"}).partition(b"\r\n\r\n")
    with sandbox.connect() as raw:
        raw.send(head + b"\r\n\r\n")
        raw.wait_for(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw.send(body)
        assert raw.read().status == 200


def test_head_has_no_body(sandbox):
    with sandbox.connect() as raw:
        raw.send(get("/v1/models", "HEAD") + get("/v1/models"))
        head = raw.wait_for(b"\r\n\r\n").partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 405")
        raw.wait_for(b"\r\n\r\nHTTP/1.1 200 OK")


def test_upgrades_are_declined(sandbox):
    answer = sandbox.fetch(post(HELLO, headers={"connection": "upgrade", "upgrade": "h2c"}))
    assert (answer.status, answer.header("connection")) == (400, "close")
    assert "upgrade" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (
            f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{{}}".encode(),
            400,
        ),
        (f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n".encode(), 400),
        (f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: 67108865\r\n\r\n".encode(), 413),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000, 431),
        (b"GET /" + b"a" * 70_000, 431),
        (get("/"), 404),
        (get("/v1/completions"), 405),
        (get(CHAT), 405),
        (get("/v1/models", "DELETE"), 405),
        (get("/sandbox/reset"), 405),
        (get("/v1/models/sandbox-nonesuch"), 404),
        (post(HELLO, headers={"content-encoding": "gzip"}), 415),
        (post(HELLO, headers={"authorization": f"Bearer {BAD_KEY}"}), 401),
        (get("/v1/models").replace(b"host", f"authorization: Bearer {BAD_KEY}\r\nhost".encode()), 401),
    ],
    ids=range(16),
)
def test_refusals(sandbox, request_bytes, status):
    answer = sandbox.fetch(request_bytes)
    assert (answer.status, answer.end) == (status, "complete")
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_nothing_is_read_after_a_framing_error(sandbox):
    with sandbox.connect() as raw:
        raw.send(b"nonsense\r\n\r\n" + post(HELLO))
        assert raw.read().status == 400 and raw.socket.recv(1) == b""
    assert sandbox.stats()["requests"] == 0


def test_chunked_bodies_are_bounded(sandbox):
    with sandbox.connect() as raw:
        raw.send(f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        try:
            for _ in range(65):
                raw.send(piece)
        except OSError:
            pass
        assert raw.read().status in (413, 0)
    assert sandbox.stats()["requests"] == 0


def test_models_are_listed(sandbox):
    listed = sandbox.fetch(get("/v1/models")).json()
    assert listed["object"] == "list" and [row["id"] for row in listed["data"]] == [
        row.id for row in models.MODELS
    ]
    assert sandbox.fetch(get("/models/sandbox-slow-7")).json()["id"] == "sandbox-slow-7"


def test_a_client_that_leaves_stops_the_generation(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-slow-5-10000", stream=True), headers={"x-request-id": "left"}))
        raw.wait_for(b"data: ", times=4)
    stats = sandbox.wait_stats(cancelled=1, in_flight=0)
    assert 3 <= stats["generated_tokens"]["left"] < 10_000
    assert sandbox.stats()["generated_tokens"] == stats["generated_tokens"]


def test_a_client_that_leaves_a_whole_answer_stops_it_too(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-slow-5-10000")))
        sandbox.wait_stats(in_flight=1)
    assert sandbox.wait_stats(cancelled=1, in_flight=0)["calls"][0]["generated_tokens"] < 10_000


def test_a_client_that_does_not_read_holds_the_generation(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-tokens-100000", stream=True)))
        raw.wait_for(b"data: ", times=2)
        seen = -1
        while (now := sandbox.stats()["calls"][0]["generated_tokens"]) != seen:
            seen = now
        assert now < 100_000
    sandbox.wait_stats(cancelled=1)


def test_a_client_that_reads_late_gets_everything(sandbox):
    with sandbox.connect() as raw:
        raw.send(post(question("sandbox-tokens-60000", stream=True), headers={"connection": "close"}))
        raw.wait_for(b"data: ", times=2)
        seen = -1
        while (now := sandbox.stats()["calls"][0]["generated_tokens"]) != seen:
            seen = now
        assert sandbox.stats()["in_flight"] == 1
        pieces = list(iter(lambda: raw.socket.recv(1 << 20), b""))
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert sandbox.wait_stats(completed=1)["calls"][0]["generated_tokens"] == 60_000


def test_http_1_0_keep_alive(sandbox):
    with sandbox.connect() as raw:
        for _ in range(2):
            raw.send(post(HELLO, headers={"connection": "keep-alive"}).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = raw.read()
            assert (answer.status, answer.header("connection")) == (200, "keep-alive")


def test_counters(sandbox):
    sandbox.fetch(post(question("sandbox-chat", max_tokens=4), headers={"x-request-id": "one"}))
    sandbox.fetch(post(question("sandbox-chat", max_tokens=3, stream=True), headers={"x-request-id": "one"}))
    sandbox.ask("sandbox-cut", stream=True)
    sandbox.ask("sandbox-500")
    stats = sandbox.stats()
    calls = stats.pop("calls")
    assert stats == {
        "requests": 4,
        "completed": 3,
        "cancelled": 0,
        "broken": 1,
        "in_flight": 0,
        "by_model": {"sandbox-chat": 2, "sandbox-cut": 1, "sandbox-500": 1},
        "generated_tokens": {"one": 7},
    }
    assert [(call["status"], call["outcome"], call["generated_tokens"]) for call in calls] == [
        (200, "completed", 4),
        (200, "completed", 3),
        (200, "broken", 3),
        (500, "completed", 0),
    ]


def test_the_last_request_without_its_secrets(sandbox):
    assert sandbox.fetch(get("/sandbox/last")).json() is None
    sandbox.fetch(
        post(
            HELLO,
            CHAT + "?x=1",
            {"Authorization": "Bearer sk-secret", "X-Api-Key": "sk-secret", "X-Other": "kept"},
        )
    )
    last = sandbox.fetch(get("/sandbox/last")).json()
    assert (last["method"], last["path"], last["body"]) == ("POST", CHAT + "?x=1", json.loads(HELLO))
    assert (last["headers"]["authorization"], last["headers"]["x-other"]) == ("Bearer ***", "kept")
    assert "sk-secret" not in json.dumps(last)
