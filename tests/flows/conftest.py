"""A gate over a database of either engine, and somebody who talks through it."""

from __future__ import annotations

import contextlib

import pytest
from tests.support.talk import CATALOGUE, Talk, key_of, numbers

from tollway.config import Settings
from tollway.core.access.keys import Key
from tollway.flows.gate import Gate
from tollway.store.factory import open_store
from tollway.store.limiter import MemoryLimiter
from tollway.upstream.client import Client
from tollway.upstream.secrets import Vault


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def gate(request, tmp_path):
    """A gate over a database of either engine."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(data=str(tmp_path / "data"), database_url=url)
    async with contextlib.AsyncExitStack() as stack:
        store = open_store(settings)
        await store.open()
        stack.push_async_callback(store.close)
        transport = Client()
        stack.push_async_callback(transport.close)
        found = Gate(
            settings=settings,
            store=store,
            transport=transport,
            limiter=MemoryLimiter(),
            vault=Vault(bytes(32)),
            sandbox=None,
        )
        found.catalogue = CATALOGUE
        stack.push_async_callback(found.close)
        yield found


@pytest.fixture
def key() -> Key:
    """A key of a project nobody else has: on PostgreSQL the tests share a database."""
    return key_of(f"acc_{next(numbers)}", f"prj_{next(numbers)}")


@pytest.fixture
def talk(gate: Gate, key: Key) -> Talk:
    return Talk(gate, key)
