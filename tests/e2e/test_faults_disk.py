"""A serving process whose disk fails or is full: new calls are refused, those under way are settled once it can be.

The kernel asks the test about each write (see tests/support/syscalls.py), so that the errors are real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.support import raw_http
from tests.support.gated import ALL, COST, ask, balance, begun, connected, ended, gated, kill, told, until
from tests.support.gateway import running, start
from tests.support.syscalls import SUPPORTED, Failing, Quota, judged

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="only Linux on x86-64 and ARM can be asked")


@contextlib.asynccontextmanager
async def ill(data, judge, *names, **env):
    """A gateway on whose system calls of these names a judge decides; killed at the end."""
    with contextlib.ExitStack() as stack:
        entering = judged(names, judge, lambda: start(data, **env))
        gateway = await asyncio.to_thread(stack.enter_context, entering)
        try:
            yield gateway
        finally:
            await asyncio.to_thread(kill, gateway)


async def proved(data, expected):
    """The books of a data folder, read by a process whose disk is well."""
    with running(data) as gateway:
        assert await balance(gateway) == (pytest.approx(expected), 0)
        await told(gateway, "credits", "verify")


async def answer_of(gateway, key):
    answer = await ask(gateway, key)
    return answer.status if answer.status == 200 else json.loads(answer.body)["error"]["code"]


async def test_while_every_fdatasync_fails_nothing_is_promised_and_nothing_is_lost(tmp_path):
    data, disk = tmp_path / "data", Failing("-wal")
    async with gated() as upstream, ill(data, disk, "fdatasync", "fsync") as gateway:
        key = await connected(gateway, upstream)
        async with raw_http.connect(gateway.port) as client:
            await begun(client, key)
            disk.ill = True
            asked = upstream.asked
            for _ in range(3):
                assert await answer_of(gateway, key) == "ledger_unavailable"
            assert disk.failed >= 3
            assert upstream.asked == asked, "no upstream hears of a call that cannot be recorded"
            status, _, _ = await asyncio.to_thread(gateway.get, "/v1/models", key)
            assert status == 200
            await upstream.let(ALL)
            # The settlement waits for the disk, and the end of the answer for the settlement.
            assert await answer_of(gateway, key) == "ledger_unavailable"
            disk.ill = False
            assert await ended(client)
        assert await answer_of(gateway, key) == 200
        assert await balance(gateway) == (pytest.approx(2 * COST), 0)
    await proved(data, 2 * COST)


async def test_a_full_disk_takes_the_ballast_and_settles_what_is_under_way(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    ballast, disk = data / "tollway.ballast", Quota(data)
    env = {"TOLLWAY_BALLAST": str(8 << 20)}
    async with gated() as upstream:
        async with ill(data, disk, "pwrite64", "fallocate", **env) as gateway:
            key = await connected(gateway, upstream)
            await until(lambda: asyncio.to_thread(ballast.exists), "the ballast")
            async with raw_http.connect(gateway.port) as client:
                await begun(client, key)
                disk.limit = disk.used()
                await upstream.let(ALL)
                # The end comes after the settlement, for which the ballast makes room; other writes may take it first.
                assert await ended(client)
            served = 1

            async def refused():
                nonlocal served
                found = await answer_of(gateway, key)
                served += found == 200
                return found == "ledger_unavailable"

            await until(refused, "the refusal of new calls")
            assert disk.failed
            assert not ballast.exists()
            assert await balance(gateway) == (pytest.approx(served * COST), 0)
            disk.limit = None
            await until(lambda: asyncio.to_thread(ballast.exists), "another ballast")
            await until(lambda: taken(gateway, key), "new calls being taken")
            served += 1
            disk.limit = disk.used()
        # Killed, with a full disk: the next process opens the ledger in the room of the ballast.
        async with ill(data, disk, "pwrite64", "fallocate", **env) as gateway:
            assert not ballast.exists()
            assert await balance(gateway) == (pytest.approx(served * COST), 0)
    await proved(data, served * COST)


async def taken(gateway, key):
    return await answer_of(gateway, key) == 200
