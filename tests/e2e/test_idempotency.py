"""Idempotency keys from outside: one call, one charge and the same bytes, whoever races, leaves or dies."""

import asyncio
import contextlib
import json
import os
import signal

import pytest
from tests.support import raw_http
from tests.support.gateway import running, start, wait_for

PRICE = ("--input-price", "0", "--output-price", "1000")
FIFTY = {"max_tokens": 50}
"""50 tokens at 0.001 credits each: a call costs 0.05."""


def add_priced(gateway, upstream, name, *models, priority=0):
    words = [word for model in models for word in ("--model", model)]
    gateway.cli(
        "channel", "add", "--name", name, "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1",
        "--priority", str(priority), *PRICE, *words,
    )  # fmt: skip


def account(gateway, name, credits_):
    gateway.cli("account", "create", name)
    gateway.cli("credits", "grant", credits_, "--account", name)
    return gateway.new_key(name, "--account", name)


def spent(gateway, name):
    return float(gateway.cli("credits", "balance", "--account", name)["spent"])


def posted(key, name, body, path="/v1/chat/completions"):
    """A request as bytes; `body` is JSON text or what becomes it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: {name}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "go"}], **FIFTY, **more}


async def ask(gateway, key, name, body, path="/v1/chat/completions"):
    return await raw_http.exchange(gateway.port, posted(key, name, body, path))


async def until_answered(gateway, key, name, body, seconds=20):
    """Ask until the answer is there, as a patient client does."""
    async with asyncio.timeout(seconds):
        while True:
            found = await ask(gateway, key, name, body)
            if found.status != 409:
                return found
            assert found.json()["error"]["code"] == "idempotency_in_progress"


@pytest.fixture(scope="module")
def priced(gateway, upstream):
    add_priced(
        gateway, upstream, "idem",
        "idem=sandbox-tokens-50", "idem-slow=sandbox-slow-20", "idem-large=sandbox-tokens-30000", "idem-cut=sandbox-cut",
    )  # fmt: skip
    return gateway


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_again_is_the_same_answer_for_nothing(priced, upstream, stream):
    name = f"again-{stream}"
    key = account(priced, name, "10")
    before = upstream.stats()["requests"]
    first = await ask(priced, key, "k1", chat("idem", stream=stream))
    assert (first.status, first.header("idempotent-replayed")) == (200, None)
    # The order of members and the space between them are not the request.
    spaced = json.dumps(dict(reversed(chat("idem", stream=stream).items())), indent=2).encode()
    for body in (chat("idem", stream=stream), spaced):
        again = await ask(priced, key, "k1", body)
        assert (again.status, again.body) == (200, first.body)
        assert again.header("idempotent-replayed") == again.header("idempotency-replayed") == "true"
        for header in ("x-request-id", "content-type", "x-tollway-model", "x-tollway-cost"):
            assert again.header(header) == first.header(header)
        assert again.header("x-tollway-balance") is None
    assert upstream.stats()["requests"] == before + 1
    assert spent(priced, name) == 0.05
    await ask(priced, key, "k2", chat("idem", stream=stream))
    assert spent(priced, name) == 0.1


async def test_a_key_belongs_to_one_request_of_one_api_key_on_one_route(priced):
    key, other = account(priced, "scope", "10"), account(priced, "scope2", "10")
    await ask(priced, key, "k", chat("idem"))
    changed = await ask(priced, key, "k", chat("idem", temperature=0.5))
    assert (changed.status, changed.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert changed.header("x-should-retry") == "false"
    assert (await ask(priced, other, "k", chat("idem"))).header("idempotent-replayed") is None
    messages = {"model": "idem", "max_tokens": 50, "messages": [{"role": "user", "content": "go"}]}
    elsewhere = await ask(priced, key, "k", messages, "/v1/messages")
    assert (elsewhere.status, elsewhere.header("idempotent-replayed")) == (200, None)
    assert spent(priced, "scope") == 0.1


DIALECTS = {
    "/v1/messages": {"model": "idem", "max_tokens": 50, "messages": [{"role": "user", "content": "go"}]},
    "/v1/responses": {"model": "idem", "max_output_tokens": 50, "input": "go"},
    "/v1beta/models/idem:generateContent": {
        "contents": [{"role": "user", "parts": [{"text": "go"}]}], "generationConfig": {"maxOutputTokens": 50},
    },
    "/v1beta/models/idem:streamGenerateContent?alt=sse": {
        "contents": [{"role": "user", "parts": [{"text": "go"}]}], "generationConfig": {"maxOutputTokens": 50},
    },
}  # fmt: skip


@pytest.mark.parametrize("path", DIALECTS)
async def test_every_dialect_replays(priced, path):
    name = "dialect-" + str(list(DIALECTS).index(path))
    key = account(priced, name, "10")
    first, again = [await ask(priced, key, "k", DIALECTS[path], path) for _ in range(2)]
    assert (first.status, again.status) == (200, 200), first.body
    assert again.body == first.body
    assert again.header("idempotent-replayed") == "true"
    other = path.replace("models/idem:", "models/idem-slow:")
    if other != path:
        assert (await ask(priced, key, "k", DIALECTS[path], other)).status == 422
    assert spent(priced, name) == 0.05


async def raced(gateways, upstream, key, model, calls):
    """Many at once: their answers, how often the upstream was called, and the answer that all get in the end."""
    before = upstream.stats()["requests"]
    body = chat(model, stream=True)
    found = await asyncio.gather(*(ask(gateways[n % len(gateways)], key, "race", body) for n in range(calls)))
    last = await until_answered(gateways[-1], key, "race", body)
    return found, upstream.stats()["requests"] - before, last


def check_race(found, calls, last):
    ran = [one for one in found if one.status == 200 and not one.header("idempotent-replayed")]
    assert len(ran) == 1
    assert calls == 1
    for one in found:
        if one.status == 409:
            assert one.json()["error"]["code"] == "idempotency_in_progress"
            assert one.header("retry-after") == "1"
        else:
            assert (one.status, one.body) == (200, ran[0].body)
    assert last.body == ran[0].body


async def test_32_at_once_are_one_call_and_one_charge(priced, upstream):
    key = account(priced, "racing", "10")
    check_race(*await raced([priced], upstream, key, "idem", 32))
    assert spent(priced, "racing") == 0.05


@pytest.mark.postgres
async def test_32_at_once_at_two_processes_are_one_call_and_one_charge(tmp_path, postgres_database, upstream):
    env = {"TOLLWAY_DATABASE_URL": postgres_database()}
    with contextlib.ExitStack() as stack:
        gateways = [stack.enter_context(running(tmp_path / "data", **env)) for _ in range(2)]
        add_priced(gateways[0], upstream, "idem", "idem=sandbox-tokens-50")
        key = account(gateways[0], "racing", "10")
        for one in gateways:
            await asyncio.to_thread(wait_for, lambda one=one: one.get("/v1/models", key)[0] == 200)
        check_race(*await raced(gateways, upstream, key, "idem", 32))
        assert spent(gateways[0], "racing") == 0.05
        gateways[0].cli("credits", "verify")


async def test_a_failure_that_cost_nothing_can_be_tried_again(priced, upstream):
    key = account(priced, "failing", "10")
    add_priced(priced, upstream, "flip-bad", "flip=sandbox-500")
    assert (await ask(priced, key, "k", chat("flip"))).status == 502
    add_priced(priced, upstream, "flip-good", "flip=sandbox-tokens-50", priority=-1)
    found = await ask(priced, key, "k", chat("flip"))
    assert (found.status, found.header("idempotent-replayed")) == (200, None)
    assert spent(priced, "failing") == 0.05


async def test_a_refusal_is_not_remembered(priced):
    key = account(priced, "poor", "0.01")
    assert (await ask(priced, key, "k", chat("idem"))).status == 402
    assert (await ask(priced, key, "k", chat("no-such-model"))).status == 404
    priced.cli("credits", "grant", "1", "--account", "poor")
    assert (await ask(priced, key, "k", chat("idem"))).status == 200


async def test_whoever_leaves_may_come_back_for_the_whole_answer_and_pays_it_once(priced, upstream):
    key = account(priced, "leaver", "10")
    body = chat("idem-slow", stream=True, max_tokens=20)
    before = upstream.stats()
    async with raw_http.connect(priced.port) as client:
        await client.send(posted(key, "k", body))
        await client.head()
        await client.chunk()
        client.reset()
    found = await until_answered(priced, key, "k", body)
    assert found.header("idempotent-replayed") == "true"
    assert found.body.endswith(b"data: [DONE]\n\n")
    after = upstream.stats()
    assert (after["requests"], after["cancelled"]) == (before["requests"] + 1, before["cancelled"])
    assert spent(priced, "leaver") == 0.02


async def test_a_stream_that_broke_after_it_cost_something_is_replayed_as_it_was(priced, upstream):
    key = account(priced, "broken", "10")
    first = await ask(priced, key, "k", chat("idem-cut", stream=True))
    assert b"stream_interrupted" in first.body
    paid = spent(priced, "broken")
    again = await ask(priced, key, "k", chat("idem-cut", stream=True))
    assert (again.body, again.header("idempotent-replayed")) == (first.body, "true")
    assert spent(priced, "broken") == paid > 0


async def test_an_answer_too_large_to_keep_is_not_run_again(priced, upstream):
    key = account(priced, "large", "1000")
    body = chat("idem-large", stream=True, max_tokens=30_000)
    first = await ask(priced, key, "k", body)
    assert first.status == 200 and len(first.body) > 1024 * 1024
    before, paid = upstream.stats()["requests"], spent(priced, "large")
    again = await ask(priced, key, "k", body)
    assert (again.status, again.json()["error"]["code"]) == (409, "idempotency_not_replayable")
    assert again.header("x-should-retry") == "false"
    assert first.header("x-request-id") in again.json()["error"]["message"]
    assert (upstream.stats()["requests"], spent(priced, "large")) == (before, paid)


async def test_killed_between_hold_and_settlement_the_key_runs_again_and_is_charged_once(tmp_path, upstream):
    data = tmp_path / "data"
    gateway = start(data)
    try:
        add_priced(gateway, upstream, "kill", "kill=sandbox-slow-20")
        key = gateway.key
        body = chat("kill", stream=True, max_tokens=20)
        async with raw_http.connect(gateway.port) as client:
            await client.send(posted(key, "k", body))
            await client.head()
            await client.chunk()
            os.kill(gateway.process.pid, signal.SIGKILL)
            gateway.process.wait()
    finally:
        gateway.stop()
        gateway.process.stdout.close()
    with running(data) as gateway:
        found = await ask(gateway, key, "k", body)
        assert (found.status, found.header("idempotent-replayed")) == (200, None)
        again = await ask(gateway, key, "k", body)
        assert (again.body, again.header("idempotent-replayed")) == (found.body, "true")
        balance = gateway.cli("credits", "balance")
        assert (float(balance["held"]), float(balance["spent"])) == (0, 0.02)
        gateway.cli("credits", "verify")


async def test_stopped_in_the_middle_the_key_runs_again_and_is_charged_once(tmp_path, upstream):
    """What had arrived was charged; it is paid back when the same key asks again."""
    data = tmp_path / "data"
    gateway = start(data, TOLLWAY_DRAIN_TIMEOUT="0.2", TOLLWAY_ACCEPT_GRACE="0")
    try:
        add_priced(gateway, upstream, "stop", "stop=sandbox-slow-20")
        key = gateway.key
        body = chat("stop", stream=True, max_tokens=40)
        async with raw_http.connect(gateway.port) as client:
            await client.send(posted(key, "k", body))
            await client.head()
            for _ in range(4):
                await client.chunk()
            gateway.process.send_signal(signal.SIGTERM)
            rest = await client.rest()
            assert b'"draining"' in rest and b"[DONE]" not in rest
        assert await asyncio.to_thread(gateway.process.wait, 30) == 0
    finally:
        gateway.stop()
        gateway.process.stdout.close()
    with running(data) as gateway:
        assert float(gateway.cli("credits", "balance")["spent"]) > 0
        found = await ask(gateway, key, "k", body)
        assert (found.status, found.header("idempotent-replayed")) == (200, None)
        assert found.body.endswith(b"data: [DONE]\n\n")
        cost = gateway.get(f"/v1/generations/{found.header('x-request-id')}", key)[2]["charged"]
        entries = gateway.cli("credits", "ledger")["entries"]
        assert [one["kind"] for one in entries] == ["settle", "refund", "settle", "grant"]
        assert -sum(float(one["amount"]) for one in entries[:3]) == pytest.approx(cost, abs=1e-9)
        gateway.cli("credits", "verify")
