"""F02: kill -9 at eleven points of a call and of the sweep after it, on both engines.

Whatever the moment: what was not settled costs nothing, what was settled is there, nothing stays
held, and the books balance. Each kill is found by the next start, which is killed at the next point.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.conftest import ENGINES
from tests.support import crashing, raw_http
from tests.support.crashing import VARIABLE
from tests.support.gated import (
    ALL,
    BILL,
    COST,
    HEADERS,
    NOTHING,
    ONE,
    TWO,
    Gated,
    ask,
    balance,
    connected,
    gated,
    kill,
    request,
    told,
    until,
)
from tests.support.gateway import Gateway, running, start
from tests.support.postgres import PostgresServer

SEEN = {
    "request sent": (NOTHING, b""),
    "first byte": (ONE, b'"one"'),
    "mid-stream": (TWO, b'"two"'),
    "usage seen": (BILL, b'"two"'),
}
"""Points seen from outside: how far the upstream answers, and what its client must have seen of it."""
LETS = {"headers": HEADERS}
PAID = ("after settle commit", "before response end")
POINTS = (
    "before hold",
    "after hold commit",
    "request sent",
    "headers",
    "first byte",
    "mid-stream",
    "usage seen",
    "before settle",
    "after settle commit",
    "before response end",
)


def test_there_are_eleven_points() -> None:
    assert len({*POINTS, "in sweep"}) == 11
    assert {*POINTS, "in sweep"} == SEEN.keys() | crashing.POINTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_gateway_killed_at_any_point_neither_loses_nor_invents_a_charge(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    site = Site(tmp_path / "data", *_database(engine, request))
    paid = 0.0
    async with gated() as upstream:
        with running(site.data, **site.env) as gateway:
            key = await connected(gateway, upstream)
        for point in POINTS:
            gateway = await site.start(point)
            try:
                assert await balance(gateway) == (pytest.approx(paid), 0), point
                await cut(gateway, upstream, key, point)
            finally:
                await asyncio.to_thread(kill, gateway)
            paid += COST if point in PAID else 0
        # A hold is open; the process that finds it dies over it, and the one after that has it all to do again.
        gateway = await site.start("mid-stream")
        await cut(gateway, upstream, key, "mid-stream")
        await asyncio.to_thread(kill, gateway)
        with pytest.raises(AssertionError, match="did not start"):
            await site.start("in sweep")
        gateway = await site.start("")
        assert await balance(gateway) == (pytest.approx(paid), 0)
        await upstream.let(ALL)
        assert (await ask(gateway, key)).complete
        assert await balance(gateway) == (pytest.approx(paid + COST), 0)
        await told(gateway, "credits", "verify")
        await asyncio.to_thread(gateway.stop)
        gateway.process.stdout.close()  # type: ignore[union-attr]


class Site:
    """Where gateways are started one after the other. `age` makes PostgreSQL take who is dead for dead at once."""

    def __init__(self, data: Path, env: dict[str, str], age: Callable[[], None]) -> None:
        self.data = data
        self.env = env
        self._age = age

    async def start(self, point: str) -> Gateway:
        await asyncio.to_thread(self._age)
        env = {VARIABLE: point if point in crashing.POINTS else "", **self.env}
        return await asyncio.to_thread(lambda: start(self.data, module="tests.support.crashing", **env))


def _database(engine: str, request: pytest.FixtureRequest) -> tuple[dict[str, str], Callable[[], None]]:
    if engine == "sqlite":
        return {}, lambda: None
    url = request.getfixturevalue("postgres_database")()
    server: PostgresServer = request.getfixturevalue("postgres")
    name = url.rpartition("/")[2]
    return {"TOLLWAY_DATABASE_URL": url}, lambda: server.sql("UPDATE worker SET heartbeat_at = 1", name)


async def cut(gateway: Gateway, upstream: Gated, key: str, point: str) -> None:
    """Make a call that sees its gateway die at a point."""
    pieces, sign = SEEN.get(point, (LETS.get(point, ALL), b""))
    await upstream.let(pieces)
    asked = upstream.asked
    async with raw_http.connect(gateway.port) as client:
        await client.send(request(key))
        if point in SEEN:
            await until(lambda: _true(upstream.asked > asked), "the upstream being asked")
            await until(lambda: _true(upstream.sent == pieces), "the upstream's answer")
            if sign:
                await _read(client, sign)
            for _ in range(2):
                # Whoever answers the second of these has read what lay there before the first.
                await asyncio.to_thread(gateway.get, "/v1/models", key)
            await asyncio.to_thread(kill, gateway)
        await asyncio.to_thread(gateway.process.wait, 30)
        with contextlib.suppress(OSError, EOFError):
            rest = await client.rest()
            assert b"[DONE]" not in rest, (
                "the end of an answer that was not settled, or whose sender was dead"
            )


async def _true(found: bool) -> bool:
    return found


async def _read(client: raw_http.Raw, sign: bytes) -> None:
    status, _ = await client.head()
    assert status == 200
    while sign not in (part := await client.chunk() or b""):
        assert part, f"the answer ended without {sign!r}"
