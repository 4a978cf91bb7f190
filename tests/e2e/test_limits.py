"""Limits from outside: what is refused, with which words and headers, and by how many processes at once."""

import asyncio
import contextlib
import json

import pytest
from tests.support import raw_http
from tests.support.gateway import running, wait_for
from tests.support.valkey import Valkey


def test_a_key_learns_where_it_stands_and_when_to_come_back(gateway):
    key = gateway.new_key("standing", "--rpm", "2", "--tpm", "100000")
    _, headers, _ = gateway.chat("sandbox-chat", key=key)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    gateway.chat("sandbox-chat", key=key)
    status, headers, body = gateway.chat("sandbox-chat", key=key)
    assert (status, body["error"]["code"]) == (429, "rate_limited")
    assert 1 <= int(headers["retry-after"]) <= 60
    assert 1 <= int(headers["retry-after-ms"]) <= 60_000
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "0")
    assert "2/2 on key 'standing'; retry in" in body["error"]["message"]
    assert body["error"]["limit"] == {
        "name": "requests_per_minute",
        "used": 2,
        "max": 2,
        "resets_at": body["error"]["limit"]["resets_at"],
    }


def test_more_tokens_than_a_minute_allows_are_refused_by_name(gateway):
    key = gateway.new_key("tokens", "--tpm", "1000")
    assert gateway.chat("sandbox-chat", key=key, max_tokens=900)[0] == 200
    status, _, body = gateway.chat("sandbox-chat", "word " * 300, key=key, max_tokens=900)
    assert (status, body["error"]["code"]) == (429, "token_rate_limited")


async def test_calls_at_the_same_time_are_counted_and_freed(gateway, upstream):
    key = gateway.new_key("crowd", "--concurrency", "2")
    body = json.dumps({"model": "up-hang", "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def status(wanted):
        while True:
            code, _, answer = await asyncio.to_thread(gateway.chat, "sandbox-chat", key=key)
            if code == wanted:
                return answer

    before = upstream.stats()["in_flight"]
    async with asyncio.timeout(60):
        async with raw_http.connect(gateway.port) as one, raw_http.connect(gateway.port) as two:
            # Neither is ever answered, so both are in flight until their clients leave.
            await one.send(head.encode() + body)
            await two.send(head.encode() + body)
            await asyncio.to_thread(wait_for, lambda: upstream.stats()["in_flight"] >= before + 2)
            refused = await status(429)
            assert refused["error"]["code"] == "concurrency_limited"
            assert "2/2 on key 'crowd'" in refused["error"]["message"]
        await status(200)


@pytest.mark.postgres
def test_two_processes_share_one_limit_through_redis(tmp_path, postgres_database):
    valkey = Valkey()
    valkey.start()
    env = {"TOLLWAY_DATABASE_URL": postgres_database(), "TOLLWAY_REDIS_URL": valkey.url}
    try:
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(running(tmp_path / "data", **env)) for _ in range(2))
            key = one.new_key("shared", "--rpm", "5")
            statuses = [gateway.chat("sandbox-chat", key=key)[0] for _ in range(5) for gateway in (one, two)]
            assert (statuses.count(200), statuses.count(429)) == (5, 5)
            valkey.stop()
            # Limits protect capacity, not money: without Redis each process goes by its own count.
            assert two.chat("sandbox-chat", key=two.new_key("later", "--rpm", "5"))[0] == 200
    finally:
        valkey.close()
