"""The limiters: one model drives both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.limits import MINUTE, NOW, a_key, patient, refusal, remaining, shared, told
from tests.support.valkey import Valkey

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.store.limiter import Limiter, MemoryLimiter, Taken
from tollway.store.limiter_redis import RedisLimiter
from tollway.store.redis_line import script

FORGET = script("redis.call('DEL', KEYS[1]) return 1")
CODES = {"requests": "rate_limited", "tokens": "token_rate_limited"}


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.close()


@pytest.fixture(params=["memory", "redis"])
async def limiter(request, valkey):
    made = MemoryLimiter() if request.param == "memory" else await shared(valkey)
    await made.open()
    yield made
    await made.close()


class Reference:
    """The rules spelled naively: every charge is remembered with the minute it lies in."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.start: int | None = None
        self.charges: list[list[int]] = []  # [minute's start, window (0 requests, 1 tokens), amount]
        self.in_flight = 0

    def turn(self, now: int) -> int:
        self.start = self.start_at(now)
        return self.start

    def start_at(self, now: int) -> int:
        if self.start is None or now - self.start >= 2 * MINUTE:
            return now
        return self.start + MINUTE if now - self.start >= MINUTE else self.start

    def amount(self, start: int, window: int) -> int:
        return max(0, sum(charge[2] for charge in self.charges if charge[:2] == [start, window]))

    def used(self, window: int, now: int) -> int:
        start = self.start_at(now)
        left = MINUTE - 1 - (now - start)
        return self.amount(start - MINUTE, window) * left // MINUTE + self.amount(start, window)

    def fits(self, window: int, limit: int | None, cost: int, now: int) -> bool:
        return limit is None or self.used(window, now) + min(cost, limit) <= limit


OPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "give"]),
        st.sampled_from([0, 1, 7, 500, 5_000, 20_000, 59_999, 60_000, 61_234, 119_999, 120_000, 300_000]),
        st.integers(0, 300),
    ),
    max_size=30,
)


@pytest.fixture(params=["memory", "redis"])
def modelled(request, valkey):
    """A limiter and the loop it lives in, for all examples of one property."""
    with asyncio.Runner() as runner:
        limiter = MemoryLimiter() if request.param == "memory" else patient(valkey, server_clock=False)
        yield runner, limiter
        runner.run(limiter.close())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rpm=st.none() | st.integers(1, 6),
    tpm=st.none() | st.integers(1, 400),
    concurrency=st.integers(1, 5),
    ops=OPS,
)
@example(
    rpm=None,
    tpm=2,
    concurrency=3,
    ops=[("take", 0, 0), ("take", 119_999, 2), ("take", 1, 2), ("give", 120_000, 2), ("take", 0, 0)],
)
def test_both_limiters_follow_the_naive_model(modelled, rpm, tpm, concurrency, ops) -> None:
    runner, limiter = modelled
    key = a_key(id=uuid4().hex, rpm=rpm, tpm=tpm, concurrency=concurrency)
    runner.run(follow(limiter, Reference(key), ops))


async def follow(limiter: Limiter, model: Reference, ops) -> None:
    now = NOW
    open_calls: list[tuple[Taken, int]] = []
    for op, pause, amount in ops:
        # Leases belong to another test: here every call in flight is renewed in time.
        now += pause
        if isinstance(limiter, RedisLimiter):
            await limiter.renew(now)
        if op == "give" and open_calls:
            taken, reserved = open_calls.pop(amount % len(open_calls))
            await limiter.give_back(taken, amount, now)
            model.in_flight -= 1
            if taken.counted:
                give(model, taken.start, reserved - amount, now)
        elif op == "take":
            await one_take(limiter, model, amount, now, open_calls)
    for taken, _ in open_calls:
        await limiter.give_back(taken, None, now)


def give(model: Reference, start: int, surplus: int, now: int) -> None:
    if surplus == 0:
        return
    here = model.turn(now)
    if surplus < 0:
        model.charges.append([here, 1, -surplus])
    elif start in {here, here - MINUTE}:
        # Credit never makes a minute negative, nor pays for a later charge in it.
        model.charges.append([start, 1, -min(surplus, model.amount(start, 1))])


async def one_take(limiter, model, tokens, now, open_calls) -> None:
    key = model.key
    if model.in_flight >= key.concurrency:
        error = await refusal(limiter, key, tokens, now)
        assert error.code == "concurrency_limited"
        return
    limited = key.rpm is not None or key.tpm is not None
    short = [
        name
        for window, (name, limit, cost) in enumerate([("requests", key.rpm, 1), ("tokens", key.tpm, tokens)])
        if limited and not model.fits(window, limit, cost, now)
    ]
    if short:
        error = await refusal(limiter, key, tokens, now)
        assert error.code in {CODES[name] for name in short}
        assert error.retry_after_ms is not None and error.retry_after_ms > 0
        check_exact(model, tokens, now, error.retry_after_ms)
        return
    taken = await limiter.take(key, tokens, now)
    model.in_flight += 1
    reserved = tokens if key.tpm is None else min(tokens, key.tpm)
    if limited:
        start = model.turn(now)
        model.charges += [[start, 0, 1], [start, 1, reserved]]
    open_calls.append((taken, reserved))
    limits = {"requests": (0, key.rpm), "tokens": (1, key.tpm)}
    assert list(told(taken)) == [name for name, (_, limit) in limits.items() if limit is not None]
    for name, header in told(taken).items():
        window, limit = limits[name]
        assert header["limit"] == limit
        assert header["remaining"] == max(0, limit - model.used(window, now))
        assert model.used(window, now + header["reset"]) == 0
        assert not header["reset"] or model.used(window, now + header["reset"] - 1)


def check_exact(model: Reference, tokens: int, now: int, retry: int) -> None:
    key = model.key

    def fits(at: int) -> bool:
        return model.fits(0, key.rpm, 1, at) and model.fits(1, key.tpm, tokens, at)

    assert not fits(now + retry - 1)
    assert fits(now + retry)


# -- what both promise -------------------------------------------------------------------------


async def test_the_limit_is_admitted_and_then_refused_with_its_numbers(limiter: Limiter) -> None:
    key = a_key(rpm=3)
    taken = [await limiter.take(key, 10, NOW + step) for step in range(3)]
    assert [remaining(one) for one in taken] == [[2], [1], [0]]
    error = await refusal(limiter, key, 10, NOW + 42_000)
    assert error.code == "rate_limited"
    assert error.message == "requests per minute: 3/3 on key 'ci'; retry in 18 s"
    assert error.retry_after_ms == 18_000
    assert error.limit is not None and error.limit[:3] == ("requests_per_minute", 3, 3)
    await limiter.take(key, 10, NOW + 42_000 + 18_000)


async def test_a_refused_window_charges_none(limiter: Limiter) -> None:
    key = a_key(rpm=2, tpm=100)
    await limiter.take(key, 60, NOW)
    for _ in range(5):
        error = await refusal(limiter, key, 60, NOW)
        assert error.code == "token_rate_limited"
        assert error.message.startswith(
            "tokens per minute: 60/100 on key 'ci', and this call reserves 60; retry in"
        )
    taken = await limiter.take(key, 40, NOW)
    assert list(told(taken)) == ["requests", "tokens"] and remaining(taken) == [0, 0]


async def test_unused_tokens_come_back_and_used_ones_are_charged(limiter: Limiter) -> None:
    key = a_key(tpm=100)
    first = await limiter.take(key, 90, NOW)
    await limiter.give_back(first, 10, NOW)
    second = await limiter.take(key, 80, NOW)
    assert remaining(second) == [10]
    await limiter.give_back(second, 90, NOW)
    third = await refusal(limiter, key, 1, NOW)
    assert third.code == "token_rate_limited"


async def test_a_call_longer_than_its_keys_memory_is_charged_what_it_used_beyond_its_estimate(
    limiter,
) -> None:
    key = a_key(tpm=100)
    long = await limiter.take(key, 10, NOW)
    later = NOW + 10 * MINUTE
    if isinstance(limiter, RedisLimiter):
        # What the server forgets by its own clock.
        await limiter._line.run(FORGET, (f"tollway:{{{key.id}}}:windows",), ())
    else:
        await limiter.take(a_key(id="other", rpm=1), 0, NOW + 3 * MINUTE)
        await limiter.take(a_key(id="other", rpm=1), 0, NOW + 6 * MINUTE)
    await limiter.give_back(long, 90, later)
    assert remaining(await limiter.take(key, 0, later)) == [20]
    short = await limiter.take(a_key(id="thrifty", tpm=100), 90, NOW)
    await limiter.give_back(short, 10, later)
    assert remaining(await limiter.take(a_key(id="thrifty", tpm=100), 0, later)) == [100]


async def test_an_unknown_count_leaves_the_estimate(limiter: Limiter) -> None:
    key = a_key(tpm=100)
    await limiter.give_back(await limiter.take(key, 90, NOW), None, NOW)
    assert (await refusal(limiter, key, 11, NOW)).code == "token_rate_limited"


async def test_a_call_larger_than_the_whole_limit_waits_for_an_empty_window(limiter: Limiter) -> None:
    key = a_key(tpm=100)
    big = await limiter.take(key, 5000, NOW)
    await limiter.give_back(big, 30, NOW)
    error = await refusal(limiter, key, 5000, NOW)
    assert error.retry_after_ms is not None
    await limiter.take(key, 5000, NOW + error.retry_after_ms)


async def test_calls_in_flight_are_counted_and_freed_once(limiter: Limiter) -> None:
    key = a_key(concurrency=2)
    first, second = [await limiter.take(key, 0, NOW) for _ in range(2)]
    error = await refusal(limiter, key, 0, NOW)
    assert (error.code, error.retry_after_ms) == ("concurrency_limited", 1000)
    assert error.message == "calls in flight: 2/2 on key 'ci'; retry when one of them has finished"
    for _ in range(3):
        await limiter.give_back(first, 0, NOW)
    third = await limiter.take(key, 0, NOW)
    assert (await refusal(limiter, key, 0, NOW)).code == "concurrency_limited"
    await limiter.give_back(second, 0, NOW)
    await limiter.give_back(third, 0, NOW)
    await limiter.take(key, 0, NOW)


async def test_a_crowded_key_is_not_charged_for_the_refusal(limiter: Limiter) -> None:
    key = a_key(rpm=2, concurrency=1)
    first = await limiter.take(key, 0, NOW)
    await refusal(limiter, key, 0, NOW)
    await limiter.give_back(first, 0, NOW)
    second = await limiter.take(key, 0, NOW)
    assert remaining(second) == [0]


async def test_keys_do_not_share_limits(limiter: Limiter) -> None:
    await limiter.take(a_key(id="a", rpm=1), 0, NOW)
    await limiter.take(a_key(id="b", rpm=1), 0, NOW)
    assert (await refusal(limiter, a_key(id="a", rpm=1), 0, NOW)).code == "rate_limited"


async def test_changed_limits_apply_to_what_was_already_taken(limiter: Limiter) -> None:
    for _ in range(3):
        await limiter.take(a_key(rpm=10), 50, NOW)
    taken = await limiter.take(a_key(rpm=10, tpm=1000), 50, NOW)
    assert remaining(taken) == [6, 800]
    assert (await refusal(limiter, a_key(tpm=200), 50, NOW)).code == "token_rate_limited"


async def test_a_clock_set_back_neither_locks_nor_frees_a_key(limiter: Limiter) -> None:
    key = a_key(rpm=2)
    for _ in range(2):
        await limiter.take(key, 0, NOW)
    back = NOW - 86_400_000
    for step in range(3):
        retry = (await refusal(limiter, key, 0, back + step)).retry_after_ms
        assert retry == MINUTE - step
    await limiter.take(key, 0, back + MINUTE)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_keys_without_a_cap_get_the_limiters(valkey, kind) -> None:
    for cap, admitted in [(2, 2), (None, 5)]:
        limiter = (
            MemoryLimiter(concurrency=cap) if kind == "memory" else await shared(valkey, concurrency=cap)
        )
        for _ in range(admitted):
            await limiter.take(a_key(), 0, NOW)
        if cap is not None:
            assert (await refusal(limiter, a_key(), 0, NOW)).code == "concurrency_limited"
        await limiter.close()


# -- memory ------------------------------------------------------------------------------------


def test_idle_keys_are_forgotten() -> None:
    limiter = MemoryLimiter()
    for number in range(1000):
        key = a_key(id=str(number), rpm=5)
        limiter.give_back_now(limiter.take_now(key, 0, NOW), 0, NOW)
    assert len(limiter) == 1000
    for minutes in (2, 4):
        limiter.take_now(a_key(id="new", rpm=5), 0, NOW + minutes * MINUTE)
    assert len(limiter) == 1


def test_a_state_in_use_outlives_the_turn_of_generations() -> None:
    limiter = MemoryLimiter()
    key = a_key(rpm=2)
    limiter.take_now(a_key(id="other", rpm=1), 0, NOW)
    limiter.take_now(key, 0, NOW + 2 * MINUTE - 2)
    limiter.take_now(key, 0, NOW + 2 * MINUTE - 1)
    with pytest.raises(GatewayError):
        limiter.take_now(key, 0, NOW + 2 * MINUTE + 1)


def test_calls_in_flight_outlive_every_turn_of_generations() -> None:
    limiter = MemoryLimiter(keys_max=10)
    key = a_key(id="busy", concurrency=1, tpm=100)
    taken = limiter.take_now(key, 90, NOW)
    for number in range(100):
        limiter.take_now(a_key(id=str(number), rpm=5), 0, NOW + number * MINUTE)
    later = NOW + 100 * MINUTE
    with pytest.raises(GatewayError):
        limiter.take_now(key, 0, later)
    limiter.give_back_now(taken, 130, later)
    assert remaining(limiter.take_now(key, 0, later)) == [60]


def test_memory_is_bounded_under_a_flood_of_keys() -> None:
    limiter = MemoryLimiter(keys_max=100)
    for number in range(5000):
        key = a_key(id=str(number), rpm=5)
        limiter.give_back_now(limiter.take_now(key, 0, NOW), 0, NOW)
        assert len(limiter) <= 100


# -- shared ------------------------------------------------------------------------------------
