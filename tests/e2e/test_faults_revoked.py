"""F19: a key that is revoked while its calls are under way: they end and are charged, and nothing new begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.store.conftest import ENGINES, fresh  # noqa: F401 - a fixture
from tests.support import raw_http
from tests.support.gated import ALL, COST, ask, balance, begun, connected, ended, gated, kill, told
from tests.support.gateway import start


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_key_revoked_under_way_pays_for_what_it_began_and_begins_nothing_more(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    env = {}
    if engine == "postgresql":
        env["TOLLWAY_DATABASE_URL"] = request.getfixturevalue("postgres_database")()
    async with gated() as upstream:
        gateway = await asyncio.to_thread(lambda: start(tmp_path / "data", **env))
        try:
            key = await connected(gateway, upstream)
            async with raw_http.connect(gateway.port) as client:
                await begun(client, key)
                await told(gateway, "key", "revoke", "caller", "--account", "caller", "--yes")
                assert (await balance(gateway))[1] > 0
                asked = upstream.asked
                refused = await ask(gateway, key)
                assert (refused.status, b'"key_revoked"' in refused.body) == (403, True)
                assert upstream.asked == asked
                await upstream.let(ALL)
                assert await ended(client)
                # The same connection, on which the key was known.
                await client.send(
                    b"GET /v1/key HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % key.encode()
                )
                assert (await client.response()).status == 403
            assert await balance(gateway) == (pytest.approx(COST), 0)
            await told(gateway, "credits", "verify")
        finally:
            await asyncio.to_thread(kill, gateway)
