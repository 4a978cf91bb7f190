"""The limiter shared through Redis: many processes, one limit; and what it does while its server is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from tests.support.limits import MINUTE, NOW, a_key, patient, refusal, remaining, shared, told
from tests.support.valkey import Valkey

from tollway.core.errors import GatewayError
from tollway.store import limiter_redis
from tollway.store.limiter import Taken
from tollway.store.limiter_redis import RedisLimiter


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.close()


async def test_processes_share_one_limit(valkey) -> None:
    one, other = await shared(valkey), patient(valkey, server_clock=False)
    key = a_key(rpm=50, concurrency=1000)
    results = await asyncio.gather(
        *[limiter.take(key, 0, NOW) for limiter in (one, other) for _ in range(60)], return_exceptions=True
    )
    assert sum(isinstance(result, Taken) for result in results) == 50
    assert all(result.code == "rate_limited" for result in results if isinstance(result, GatewayError))
    assert not one.away and not other.away
    await one.close()
    await other.close()


async def test_the_servers_clock_is_used(valkey) -> None:
    await (await shared(valkey)).close()
    limiter = patient(valkey)
    key = a_key(rpm=2)
    for wrong_clock in (NOW, 5):
        await limiter.take(key, 0, wrong_clock)
    error = await refusal(limiter, key, 0, NOW * 2)
    assert error.retry_after_ms is not None and 0 < error.retry_after_ms <= MINUTE
    await limiter.close()


async def test_a_dead_process_loses_its_places_and_a_living_one_keeps_them(valkey) -> None:
    dead, living = await shared(valkey), patient(valkey, server_clock=False)
    key = a_key(concurrency=2)
    await dead.take(key, 0, NOW)
    await living.take(key, 0, NOW)
    later = NOW + limiter_redis.LEASE_MS - 1
    assert (await refusal(living, key, 0, later)).code == "concurrency_limited"
    await living.renew(later)
    taken = await living.take(key, 0, later + 2)
    assert (await refusal(living, key, 0, later + 2)).code == "concurrency_limited"
    await living.give_back(taken, 0, later + 2)
    await dead.close()
    await living.close()


async def test_places_are_renewed_in_the_background(valkey, monkeypatch) -> None:
    monkeypatch.setattr(limiter_redis, "RENEW_EVERY", 0.01)
    await (await shared(valkey)).close()
    limiter = patient(valkey)
    await limiter.open()
    await limiter.take(a_key(), 0, NOW)
    client = Redis.from_url(valkey.url)
    place, first = (await client.zrange("tollway:{key_1}:calls", 0, -1, withscores=True))[0]
    async with asyncio.timeout(10):
        while await client.zscore("tollway:{key_1}:calls", place) <= first:
            await asyncio.sleep(0)
    await client.aclose()
    await limiter.close()


async def test_everything_written_expires(valkey) -> None:
    limiter = await shared(valkey)
    await limiter.take(a_key(rpm=5), 0, NOW)
    client = Redis.from_url(valkey.url)
    names = await client.keys()
    assert len(names) == 2 and all(b"{key_1}" in name for name in names)
    assert all([0 < await client.pttl(name) <= 2 * MINUTE + 1000 for name in names])
    await client.aclose()
    await limiter.close()


async def test_an_outage_is_bridged_locally_told_once_and_recovered_from(
    own_valkey, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(limiter_redis, "RETRY_AFTER", 0.0)
    key = a_key(rpm=3, concurrency=10)
    limiter = patient(own_valkey)
    with caplog.at_level("INFO", "tollway.limiter"):
        before = await limiter.take(key, 0, NOW)
        assert before.shared
        own_valkey.stop()
        during = [await limiter.take(key, 0, NOW) for _ in range(3)]
        assert limiter.away and not any(one.shared for one in during)
        assert (await refusal(limiter, key, 0, NOW)).code == "rate_limited"
        await limiter.give_back(before, 0, NOW)
        own_valkey.start()
        after = await limiter.take(key, 0, NOW)
        assert after.shared and not limiter.away
        for one in (*during, after):
            await limiter.give_back(one, 0, NOW)
    told = [(one.levelname, one.message.partition(":")[0]) for one in caplog.records]
    assert told == [
        ("WARNING", "limits are per process while Redis is away"),
        ("INFO", "limits are shared again"),
    ]
    await limiter.close()


async def test_a_server_that_is_away_from_the_start_stops_nobody() -> None:
    limiter = RedisLimiter("redis://127.0.0.1:1/0")
    await limiter.open()
    taken = await limiter.take(a_key(rpm=1), 0, NOW)
    assert limiter.away
    await limiter.give_back(taken, 0, NOW)
    assert (await refusal(limiter, a_key(rpm=1), 0, NOW)).code == "rate_limited"
    await limiter.close()


async def test_a_frozen_server_is_asked_only_now_and_then(own_valkey, monkeypatch) -> None:
    monkeypatch.setattr(limiter_redis, "RETRY_AFTER", 3600.0)
    limiter = RedisLimiter(own_valkey.url)
    await limiter.take(a_key(), 0, NOW)
    own_valkey.freeze()
    try:
        for _ in range(500):
            taken = await limiter.take(a_key(concurrency=1000), 0, NOW)
            assert not taken.shared
    finally:
        own_valkey.thaw()
    await limiter.close()


async def test_cancelled_takes_leak_no_place_and_mix_up_no_answers(own_valkey) -> None:
    limiter = patient(own_valkey, concurrency=None)
    capped = [a_key(id=f"key_{number}", concurrency=number + 1, rpm=number + 1) for number in range(20)]
    await limiter.take(a_key(id="warm"), 0, NOW)
    for round_ in range(20):
        tasks = [asyncio.create_task(limiter.take(a_key(id="victim", rpm=10**6), 0, NOW)) for _ in range(10)]
        for _ in range(round_):
            await asyncio.sleep(0)
        asked = [task.cancel() for task in tasks]
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == asked
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Taken):
                await limiter.give_back(result, 0, NOW)
    for key in capped:
        taken = await limiter.take(key, 0, NOW)
        window = told(taken)["requests"]
        assert window["limit"] == key.rpm and window["remaining"] == key.rpm - 1
    client = Redis.from_url(own_valkey.url)
    async with asyncio.timeout(10):
        while await client.zcard("tollway:{victim}:calls"):
            await asyncio.sleep(0)
    await client.aclose()
    assert not limiter.away
    await limiter.close()


async def test_a_flushed_server_is_just_a_clean_one(own_valkey) -> None:
    limiter = patient(own_valkey)
    client = Redis.from_url(own_valkey.url)
    key = a_key(rpm=1)
    taken = await limiter.take(key, 0, NOW)
    await client.flushall()
    await client.script_flush()
    await limiter.give_back(taken, 0, NOW)
    await limiter.take(key, 0, NOW)
    assert not limiter.away
    await client.aclose()
    await limiter.close()


async def test_a_cancelled_give_back_still_frees_the_place(own_valkey) -> None:
    limiter = patient(own_valkey)
    client = Redis.from_url(own_valkey.url)
    for turns in range(1, 12):
        taken = await limiter.take(a_key(), 0, NOW)
        task = asyncio.create_task(limiter.give_back(taken, 0, NOW))
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() == asked  # a cancellation is never swallowed on the way
    async with asyncio.timeout(10):
        while await client.zcard("tollway:{key_1}:calls"):
            await asyncio.sleep(0)
    await client.aclose()
    await limiter.close()


async def test_an_outage_at_any_point_stops_nobody(own_valkey, monkeypatch) -> None:
    monkeypatch.setattr(limiter_redis, "RENEW_EVERY", 0.0)
    limiter = patient(own_valkey)
    first, second = await limiter.take(a_key(), 0, NOW), await limiter.take(a_key(), 0, NOW)
    own_valkey.stop()
    await limiter.give_back(first, 0, NOW)
    assert limiter.away
    await limiter.give_back(second, 0, NOW)  # not even asked for: Redis is known to be away
    own_valkey.start()
    monkeypatch.setattr(limiter_redis, "RETRY_AFTER", 0.0)
    limiter._look_at = 0.0
    held = await limiter.take(a_key(), 0, NOW)
    assert held.shared and not limiter.away
    own_valkey.stop()
    await limiter.open()
    async with asyncio.timeout(10):
        while not limiter.away:  # the renewal of the lease has noticed
            await asyncio.sleep(0)
    await limiter.close()


async def test_places_left_behind_in_an_outage_are_freed_after_it(own_valkey, monkeypatch) -> None:
    monkeypatch.setattr(limiter_redis, "RETRY_AFTER", 0.0)
    limiter = RedisLimiter(own_valkey.url, concurrency=5)
    client = Redis.from_url(own_valkey.url)
    before = [await limiter.take(a_key(), 0, NOW) for _ in range(2)]
    own_valkey.freeze()
    during = [await limiter.take(a_key(), 0, NOW) for _ in range(2)]
    await limiter.give_back(before[0], 0, NOW)
    own_valkey.thaw()
    assert limiter.away and not any(one.shared for one in during)
    async with asyncio.timeout(10):
        while limiter.away:
            await limiter.give_back(await limiter.take(a_key(id="other"), 0, NOW), 0, NOW)
        # Answers that came too late are not taken for those of later calls.
        later = [await limiter.take(a_key(id=f"key_{number}", rpm=number), 0, NOW) for number in range(2, 9)]
        assert [remaining(one) for one in later] == [[number] for number in range(1, 8)]
        while await client.zcard("tollway:{key_1}:calls") != 1:
            await asyncio.sleep(0)
    await client.aclose()
    await limiter.close()


async def test_an_unwilling_server_is_an_absent_one(own_valkey) -> None:
    client = Redis.from_url(own_valkey.url)
    await client.set("tollway:{key_1}:calls", "not a sorted set")
    limiter = patient(own_valkey)
    taken = await limiter.take(a_key(), 0, NOW)
    assert not taken.shared and limiter.away
    await client.aclose()
    await limiter.close()


async def test_a_crowd_goes_in_batches_and_everybody_gets_their_own_answer(valkey) -> None:
    limiter = await shared(valkey, concurrency=None)
    keys = [a_key(id=f"key_{number % 50}", rpm=1000 + number % 50) for number in range(600)]
    taken = await asyncio.gather(*[limiter.take(key, 0, NOW) for key in keys])
    for number, one in enumerate(taken):
        assert one.key_id == keys[number].id
        assert remaining(one) == [1000 + number % 50 - 1 - number // 50]
    await limiter.close()
