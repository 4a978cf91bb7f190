"""F16: the clock is set an hour forward or back while calls are under way; nobody loses, gains or is kept out by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.conftest import ENGINES, fresh  # noqa: F401 - a fixture
from tests.support import raw_http
from tests.support.gated import ALL, COST, ONE, ask, balance, begun, connected, ended, gated, kill, told
from tests.support.gateway import Gateway, start
from tests.support.ledger import balance_of, books_balance, hold_of, settlement_of, wallet_of
from tests.support.postgres import PostgresServer
from tests.support.shifted import VARIABLE, Clock

from tollway.config import Settings
from tollway.store.base import Balance
from tollway.store.factory import open_store, unix_ms

HOUR = 3_600_000
JUMPS = pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "forward"])


@JUMPS
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_gateway_whose_clock_jumps_charges_calls_under_way_once_and_goes_on(
    engine: str, jump: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    clock = Clock(tmp_path / "clock")
    env = {VARIABLE: str(clock.path)}
    if engine == "postgresql":
        env["TOLLWAY_DATABASE_URL"] = request.getfixturevalue("postgres_database")()
    async with gated() as upstream:
        gateway = await asyncio.to_thread(
            lambda: start(tmp_path / "data", module="tests.support.shifted", **env)
        )
        try:
            key = await connected(gateway, upstream)
            calls = 0
            for shift in (jump, 0):
                calls += await _under_way(gateway, upstream, key, lambda shift=shift: clock.set(shift))
                calls += (await ask(gateway, key)).complete
                assert await balance(gateway) == (pytest.approx(calls * COST), 0)
            assert calls == 4
            for job in ("scheduled-maintenance", "verify-ledger"):
                assert (await told(gateway, "job", "run", job))["status"] == "ok"
            await told(gateway, "credits", "verify")
        finally:
            await asyncio.to_thread(kill, gateway)


async def _under_way(gateway: Gateway, upstream, key: str, jump: Callable[[], None]) -> bool:  # type: ignore[no-untyped-def]
    """A call during which the clock is set; whether it ended well."""
    await upstream.let(ONE + 1)
    async with raw_http.connect(gateway.port) as client:
        await begun(client, key)
        jump()
        await upstream.let(ALL)
        return await ended(client)


SHIFTED = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.jump (by interval);
INSERT INTO shifted.jump VALUES ('0');
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT pg_catalog.clock_timestamp() + (SELECT by FROM shifted.jump)'
"""


@pytest.mark.postgres
@JUMPS
@pytest.mark.parametrize("heard", [True, False])
async def test_when_the_databases_clock_jumps_owners_that_were_heard_of_keep_their_holds(
    heard: bool,
    jump: int,
    fresh: Callable[[str], Settings],  # noqa: F811
    postgres: PostgresServer,
) -> None:
    settings = fresh("postgresql")
    name = settings.database_url.rpartition("/")[2]
    postgres.sql(SHIFTED, name)
    postgres.sql(f"ALTER DATABASE {name} SET search_path = public, shifted, pg_catalog")
    one, other = open_store(settings), open_store(settings)
    await one.open()
    await other.open()
    wallet = await wallet_of(one, 1000)
    held = [hold_of(wallet, 100) for _ in range(3)]
    for request in held:
        await one.ledger.hold(request)
    await asyncio.to_thread(postgres.sql, f"UPDATE shifted.jump SET by = '{jump // 1000} seconds'", name)
    if heard:
        await one.heartbeat(unix_ms())
    assert await other.recover(unix_ms()) in ({0} if heard or jump < 0 else {0, 3})
    settled = [await one.ledger.settle(settlement_of(request.id, 60)) for request in held]
    assert [found.charged + found.absorbed for found in settled] == [60] * 3
    charged = sum(found.charged for found in settled)
    if heard or jump < 0:
        assert charged == 180
    assert await balance_of(one, wallet) == Balance(1000, charged, 0)
    await books_balance(one)
    await one.close()
    await other.close()
