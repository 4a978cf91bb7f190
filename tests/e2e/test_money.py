"""Money from outside: exactly what is affordable is served, by any number of processes, and leaving is never free."""

import asyncio
import contextlib
import json
import os
import signal

import pytest
from tests.support import raw_http
from tests.support.gateway import running, start, wait_for

PRICE = ("--input-price", "0", "--output-price", "1000")
"""Credits per 10^6 tokens: 50 tokens cost 0.05 credits, and a call of exactly 50 holds exactly that."""
FIFTY = {"max_tokens": 50}


def add_priced(gateway, upstream, name, *models):
    words = [word for model in models for word in ("--model", model)]
    gateway.cli(
        "channel", "add", "--name", name, "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1", *PRICE, *words
    )  # fmt: skip


def account(gateway, name, credits_):
    gateway.cli("account", "create", name)
    gateway.cli("credits", "grant", credits_, "--account", name)
    return gateway.new_key(name, "--account", name)


def request(gateway, key, model, **more):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "go"}], **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def race(gateways, key, model, calls):
    """All calls at once, spread over the gateways; their statuses."""

    async def one(gateway):
        return (await raw_http.exchange(gateway.port, request(gateway, key, model, **FIFTY))).status

    return await asyncio.gather(*(one(gateways[index % len(gateways)]) for index in range(calls)))


async def test_64_clients_race_a_balance_for_seven_on_sqlite(gateway, upstream):
    add_priced(gateway, upstream, "race", "race=sandbox-tokens-50", "race-slow=sandbox-tokens-50")
    for round_ in range(3):
        key = account(gateway, f"racer{round_}", "0.35")
        statuses = await race([gateway], key, "race", 64)
        assert (statuses.count(200), statuses.count(402)) == (7, 57)
        balance = gateway.cli("credits", "balance", "--account", f"racer{round_}")
        assert float(balance["available"]) == 0
    gateway.cli("credits", "verify")


@pytest.mark.postgres
async def test_four_processes_on_postgresql_serve_exactly_what_one_wallet_affords(
    tmp_path, postgres_database, upstream
):
    env = {"TOLLWAY_DATABASE_URL": postgres_database()}
    with contextlib.ExitStack() as stack:
        gateways = [stack.enter_context(running(tmp_path / "data", **env)) for _ in range(4)]
        first = gateways[0]
        add_priced(first, upstream, "race", "race=sandbox-tokens-50")
        key = account(first, "racer", "0.55")
        # A key and a channel made a moment ago, by another process, are known to all at once.
        await asyncio.gather(*(_known(gateway, key) for gateway in gateways))
        statuses = await race(gateways, key, "race", 64)
        assert (statuses.count(200), statuses.count(402)) == (11, 53)
        assert float(first.cli("credits", "balance", "--account", "racer")["available"]) == 0
        first.cli("credits", "verify")


async def _known(gateway, key):
    def listed():
        status, _, body = gateway.get("/v1/models", key)
        return status == 200 and any(model["id"] == "race" for model in body["data"])

    await asyncio.to_thread(wait_for, listed)


LEAVING = ["FIN", "RST", "half-close"]


def leave(client, how):
    {"FIN": client.close, "RST": client.reset, "half-close": client.half_close}[how]()


async def settled(gateway, name, expected):
    """The balance of an account once nothing is held any more and something was charged, if it should be."""

    def look():
        balance = gateway.cli("credits", "balance", "--account", name)
        done = float(balance["held"]) == 0 and (float(balance["spent"]) > 0) == expected
        return balance if done else None

    return await asyncio.to_thread(wait_for, look)


@pytest.mark.parametrize("how", LEAVING)
async def test_leaving_mid_stream_cancels_the_upstream_and_pays_for_what_was_generated(
    gateway, upstream, how
):
    name = f"leaver-{how.lower()}"
    add_priced(gateway, upstream, name, f"{name}=sandbox-slow-20")
    key = account(gateway, name, "1000")
    before = upstream.stats()["cancelled"]
    async with raw_http.connect(gateway.port) as client:
        await client.send(request(gateway, key, name, stream=True, max_tokens=2000))
        await client.head()
        for _ in range(12):
            await client.chunk()
        leave(client, how)
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["cancelled"] == before + 1)
    balance = await settled(gateway, name, expected=True)
    generated = float(balance["spent"]) * 1000
    assert 10 <= generated <= 40


@pytest.mark.parametrize("how", LEAVING)
async def test_leaving_a_whole_answer_cancels_the_upstream_and_costs_no_output(gateway, upstream, how):
    name = f"whole-{how.lower()}"
    add_priced(gateway, upstream, name, f"{name}=sandbox-hang")
    key = account(gateway, name, "1000")
    before = upstream.stats()
    async with raw_http.connect(gateway.port) as client:
        await client.send(request(gateway, key, name))
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["requests"] > before["requests"])
        leave(client, how)
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["cancelled"] == before["cancelled"] + 1)
    balance = await settled(gateway, name, expected=False)
    assert float(balance["available"]) == 1000


FAILING = ["500", "503", "rst", "html", "empty", "401", "first-error", "json-for-sse", "empty-choice"]


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_word_costs_nothing(gateway, upstream, stream):
    name = f"failing-{stream}"
    kinds = [kind for kind in FAILING if stream or kind != "json-for-sse"]
    add_priced(gateway, upstream, name, *[f"{name}-{kind}=sandbox-{kind}" for kind in kinds])
    key = account(gateway, name, "1000")
    for kind in kinds:
        answer = await raw_http.exchange(gateway.port, request(gateway, key, f"{name}-{kind}", stream=stream))
        assert answer.status in (502, 503), (kind, answer.status, answer.body[:200])
        assert answer.json()["error"]["code"] == "upstream_error", kind
    balance = await settled(gateway, name, expected=False)
    assert float(balance["available"]) == 1000


async def test_a_stream_cut_after_output_is_paid_for_what_arrived_and_ends_in_an_error(gateway, upstream):
    add_priced(gateway, upstream, "cutting", "cutting=sandbox-cut")
    key = account(gateway, "cutting", "1000")
    answer = await raw_http.exchange(gateway.port, request(gateway, key, "cutting", stream=True))
    blocks = answer.body.decode().strip().split("\n\n")
    assert b"[DONE]" not in answer.body
    error = json.loads(blocks[-1].removeprefix("data: "))["error"]
    assert error["code"] == "stream_interrupted"
    arrived = sum('"content":"' in block and '"content":""' not in block for block in blocks)
    balance = await settled(gateway, "cutting", expected=True)
    assert round(float(balance["spent"]) * 1000) == arrived


async def test_missing_usage_is_estimated_and_absurd_usage_never_exceeds_the_hold(gateway, upstream):
    add_priced(
        gateway,
        upstream,
        "odd",
        *[f"odd-{kind}=sandbox-{kind}" for kind in ("no-usage", "bad-usage", "bad-usage-absurd")],
    )
    key = account(gateway, "odd", "1000")
    for kind in ("no-usage", "bad-usage", "bad-usage-absurd"):
        answer = await raw_http.exchange(gateway.port, request(gateway, key, f"odd-{kind}", max_tokens=40))
        assert answer.status == 200, (kind, answer.body)
        assert 0 < answer.json()["usage"]["cost"] <= 0.04, kind


def test_failover_answers_from_the_next_channel_and_never_tries_one_twice(gateway, upstream):
    for priority, model in ((0, "sandbox-500"), (1, "sandbox-html"), (2, "sandbox-chat")):
        gateway.cli(
            "channel", "add", "--name", f"over{priority}", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1",
            "--priority", str(priority), "--model", f"over={model}",
        )  # fmt: skip
    before = upstream.stats()["requests"]
    status, headers, body = gateway.chat("over")
    assert status == 200
    assert headers["x-tollway-attempts"] == "3"
    assert body["model"] == "over"
    assert upstream.stats()["requests"] == before + 3


def test_where_an_upstream_lives_is_not_told_to_callers(gateway):
    gateway.cli(
        "channel", "add", "--name", "nowhere", "--base-url", "http://127.0.0.1:9/v1", "--model", "nowhere"
    )
    status, headers, body = gateway.chat("nowhere")
    assert (status, body["error"]["code"]) == (502, "upstream_error")
    assert "127.0.0.1" not in f"{headers} {body}"
    assert "connect" in body["error"]["message"]


def test_an_upstreams_secrets_and_cookies_never_come_through(gateway):
    for model in ("up-leak", "up-cookie"):
        for stream in (False, True):
            _, headers, body = gateway.chat(model, stream=stream)
            text = f"{headers} {body}"
            assert "sk-upstream-canary" not in text
            assert "set-cookie" not in text.lower()
            assert "openai-organization" not in text.lower()


def test_a_missing_max_tokens_is_clamped_to_what_the_wallet_affords_and_said(gateway, upstream):
    add_priced(gateway, upstream, "clamped", "clamped=sandbox-long")
    key = account(gateway, "clamped", "0.1")
    status, headers, body = gateway.chat("clamped", key=key)
    assert status == 200
    assert int(headers["x-tollway-max-tokens"]) == 100
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["cost"] == 0.1
    assert gateway.chat("clamped", key=key)[0] == 402


def test_a_budget_bounds_a_key_while_the_account_has_plenty(gateway, upstream):
    add_priced(gateway, upstream, "budgeted", "budgeted=sandbox-tokens-50")
    key = gateway.new_key("budgeted", "--budget", "0.15", "--budget-period", "monthly")
    statuses = [gateway.chat("budgeted", key=key, **FIFTY)[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 402]
    _, _, body = gateway.chat("budgeted", key=key, **FIFTY)
    assert body["error"]["code"] == "key_budget_exceeded"
    assert "not the problem" in body["error"]["message"]


@pytest.mark.slow
async def test_kill_9_loses_no_answered_bill_and_returns_what_the_dead_held(tmp_path, upstream):
    data = tmp_path / "data"
    answered, cost, key, port = 0, 0.0, None, 0
    for _ in range(8):
        gateway = start(data)
        if key is None:
            key = gateway.key
            add_priced(gateway, upstream, "kill", "kill=sandbox-tokens-50", "kill-slow=sandbox-slow-50")
        port = gateway.port
        slow = [
            asyncio.create_task(_quiet(port, request(gateway, key, "kill-slow", stream=True)))
            for _ in range(4)
        ]
        calls = [asyncio.create_task(_quiet(port, request(gateway, key, "kill", **FIFTY))) for _ in range(24)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert done
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        gateway.process.stdout.close()
        for answer in await asyncio.gather(*calls):
            if answer is not None and answer.status == 200 and answer.complete:
                answered += 1
                cost += answer.json()["usage"]["cost"]
        await asyncio.gather(*slow)
    assert answered >= 8
    with running(data) as gateway:
        balance = gateway.cli("credits", "balance")
        assert float(balance["held"]) == 0
        assert float(balance["spent"]) >= cost - 1e-9
        gateway.cli("credits", "verify")


async def _quiet(port, data):
    """The answer, or None where the connection died first."""
    try:
        return await raw_http.exchange(port, data)
    except (OSError, EOFError, ValueError, IndexError):
        return None
