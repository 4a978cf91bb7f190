"""Two gateways on one PostgreSQL: what they do at the same time is done once."""

import asyncio
import contextlib

import pytest
from tests.support.admin import do, instance

from tollway.flows.admin.bootstrap import bootstrap
from tollway.flows.admin.refusals import Refused

pytestmark = pytest.mark.postgres


@pytest.fixture
async def admins(tmp_path, postgres_database):
    url = postgres_database()
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(instance(tmp_path, set_up=False, database_url=url))
            for _ in range(2)
        ]


async def test_first_starts_at_once_set_up_once(admins):
    found = await asyncio.gather(*(bootstrap(admin, with_key=True) for admin in admins * 2))
    assert sorted(one.first for one in found) == [False, False, False, True]
    assert (await do(admins[0], "credits.balance"))["granted"] == 1000


async def test_of_many_that_want_one_name_at_once_one_gets_it(admins):
    await bootstrap(admins[0], with_key=False)
    for operation, arguments in [
        ("key.create", {"name": "same"}),
        ("project.create", {"name": "same"}),
        ("account.create", {"name": "same"}),
        ("channel.add", {"name": "same", "base_url": "http://h/v1", "models": ["m"]}),
        ("model.alias", {"alias": "fast", "name": "sandbox-chat"}),
    ]:
        results = await asyncio.gather(
            *(do(admin, operation, **arguments) for admin in admins * 4), return_exceptions=True
        )
        assert sum(isinstance(one, dict) for one in results) == 1, (operation, results)
        assert {one.refusal.kind for one in results if isinstance(one, Refused)} == {"conflict"}, operation
        assert not [one for one in results if not isinstance(one, dict | Refused)], operation


async def test_a_grant_repeated_at_once_is_made_once(admins):
    await bootstrap(admins[0], with_key=False)
    await asyncio.gather(*(do(admin, "credits.grant", amount="5", id="invoice") for admin in admins * 4))
    assert (await do(admins[1], "credits.balance"))["granted"] == 1005
    assert (await do(admins[1], "credits.verify"))["ok"] is True


async def test_channels_that_bring_one_new_model_at_once_both_serve_it(admins):
    await bootstrap(admins[0], with_key=False)
    results = await asyncio.gather(
        *(
            do(admin, "channel.add", name=f"c{n}", base_url="http://h/v1", models=["new"])
            for n, admin in enumerate(admins * 2)
        )
    )
    assert len(results) == 4
    shown = await do(admins[0], "model.show", name="new")
    assert sorted(route["channel"] for route in shown["details"]["channels"]) == ["c0", "c1", "c2", "c3"]
    assert len(shown["prices"]) == 1
