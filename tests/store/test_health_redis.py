"""The health of channels shared through a real server: heard by others, merged as the core says, no dependency."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from tests.support.servers import eventually
from tests.support.valkey import Valkey

from tollway.core.routing.health import CONSECUTIVE, MEMORY_MS, NO_MARK, Health, Mark, joined
from tollway.store import health_redis
from tollway.store.health_redis import KEY, SharedHealth
from tollway.store.redis_line import AWAY

NOW = 1_800_000_000_000
NAME = ("chn_1", "some/model")


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    found = Valkey()
    found.start()
    yield found
    found.close()


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    with Redis.from_url(server.url) as client:
        client.flushall()
    return server


class Process:
    """One process's health and its line to the others."""

    def __init__(self, valkey: Valkey, clock=lambda: NOW) -> None:
        self.health = Health()
        self.shared = SharedHealth(valkey.url, self.health, clock, timeout=10.0)

    def fault(self, now: int = NOW) -> None:
        for _ in range(CONSECUTIVE):
            self.health.fault(*NAME, now, dice=0.5)

    def state(self, now: int = NOW) -> str:
        return self.health.state(*NAME, now)


async def test_a_trip_and_its_end_reach_the_others(valkey) -> None:
    one, two = Process(valkey), Process(valkey)
    one.fault()
    await one.shared.exchange()
    await two.shared.exchange()
    assert (one.state(), two.state()) == ("open", "open")
    later = NOW + 40_000
    assert two.health.claim(*NAME, later)
    two.health.ok(*NAME, later)
    await two.shared.exchange()
    await one.shared.exchange()
    assert (one.state(later), two.state(later)) == ("closed", "closed")
    for process in (one, two):
        await process.shared.close()


async def test_a_server_that_forgot_everything_is_told_again(valkey) -> None:
    one, two = Process(valkey), Process(valkey)
    one.fault()
    await one.shared.exchange()
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    await two.shared.exchange()
    assert two.state() == "closed"
    assert one.state() == "open"
    await one.shared.exchange()
    await one.shared.exchange()
    await two.shared.exchange()
    assert two.state() == "open"
    for process in (one, two):
        await process.shared.close()


async def test_old_marks_are_forgotten_and_foreign_ones_left_alone(valkey) -> None:
    with Redis.from_url(valkey.url) as client:
        client.hset(KEY, "chn_old m", f"{NOW - 9 * MEMORY_MS}:0:{NOW - 8 * MEMORY_MS}:1:0")
        client.hset(KEY, "chn_new m", f"{NOW}:0:{NOW + 30_000}:1:0:{NOW}")
        process = Process(valkey)
        await process.shared.exchange()
        assert client.hkeys(KEY) == [b"chn_new m"]
    assert len(process.health) == 0
    await process.shared.close()


async def test_without_a_server_each_judges_alone_and_says_so_once(monkeypatch, caplog) -> None:
    monkeypatch.setattr(health_redis, "EVERY_S", 0.01)
    valkey = Valkey()
    valkey.start()
    try:
        valkey.stop()
        one, two = Process(valkey), Process(valkey)
        one.fault()
        with pytest.raises(AWAY):
            await one.shared.exchange()
        assert (one.state(), two.state()) == ("open", "closed")
        caplog.set_level("INFO", "tollway.health")
        for process in (one, two):
            await process.shared.open()
        await eventually(lambda: len(caplog.records) == 2)
        await asyncio.to_thread(valkey.start)
        await eventually(lambda: two.state() == "open")
        await eventually(lambda: len(caplog.records) == 4)
        for process in (one, two):
            await process.shared.close()
    finally:
        valkey.close()
    said = [record.getMessage() for record in caplog.records]
    assert sum("judges channels alone" in line for line in said) == 2
    assert sum("tell each other" in line for line in said) == 2


small = st.integers(NOW, NOW + 3)
marks = st.builds(Mark, small, st.sampled_from([0, NOW, NOW + 1]), small, st.integers(0, 2), small)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(marks, min_size=1, max_size=5))
def test_the_script_joins_marks_as_the_core_does(valkey, told) -> None:
    async def tell() -> Mark:
        with Redis.from_url(valkey.url) as client:
            client.flushall()
        process = Process(valkey)
        expected = NO_MARK
        for mark in told:
            args = (NOW, MEMORY_MS, "chn m", *mark)
            answer = await process.shared._line.run(health_redis._EXCHANGE, (KEY,), args)
            expected = joined(expected, mark)
            assert health_redis._marks(answer) == [("chn m", expected)]
        await process.shared.close()
        return expected

    asyncio.run(tell())
