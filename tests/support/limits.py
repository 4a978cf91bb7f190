"""Keys, servers and limiters for the tests of rate limits."""

from __future__ import annotations

import re

import pytest
from redis.asyncio import Redis
from tests.support.valkey import Valkey

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.store.limiter import Limiter, Taken
from tollway.store.limiter_redis import RedisLimiter

NOW = 1_800_000_000_000
MINUTE = 60_000


async def shared(server: Valkey, **options) -> RedisLimiter:
    """A limiter on an emptied server that goes by the test's clock."""
    client = Redis.from_url(server.url)
    await client.flushall()
    await client.aclose()
    return patient(server, server_clock=False, **options)


def patient(server: Valkey, **options) -> RedisLimiter:
    """A limiter that does not take a busy test machine for an outage."""
    return RedisLimiter(server.url, timeout=30, **options)


def a_key(**fields) -> Key:
    defaults = {
        "id": "key_1", "account_id": "a", "account_status": "active", "project_id": "p", "project_name": "p", "name": "ci",
        "display": "sk", "status": "active", "wallet": 1, "group": "default", "models": (), "networks": (), "rpm": None, "tpm": None,
        "concurrency": None, "budget": None, "budget_period": "total", "expires_at": None, "created_at": 0,
    }  # fmt: skip
    return Key(**{**defaults, **fields})


async def refusal(limiter: Limiter, key: Key, tokens: int, now: int) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await limiter.take(key, tokens, now)
    return caught.value


def told(taken: Taken) -> dict[str, dict[str, int]]:
    """What the headers of a call say, by window: its limit, what remains and the milliseconds to its reset."""
    found: dict[str, dict[str, int]] = {}
    for line in taken.headers.decode().splitlines():
        name, _, value = line.partition(": ")
        what, _, window = name.removeprefix("x-ratelimit-").partition("-")
        found.setdefault(window, {})[what] = _ms(value) if what == "reset" else int(value)
    return found


def remaining(taken: Taken) -> list[int]:
    """What remains of each limited window."""
    return [window["remaining"] for window in told(taken).values()]


def _ms(duration: str) -> int:
    """A duration as Go writes it, in milliseconds."""
    factors = {"m": 60_000, "s": 1000, "ms": 1}
    parts = re.findall(r"([0-9.]+)(ms|m|s)", duration)
    assert "".join(number + unit for number, unit in parts) == duration
    return round(sum(float(number) * factors[unit] for number, unit in parts))
