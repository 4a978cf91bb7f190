"""Every test of the client runs on both event loops: uvloop serves, asyncio is the reference."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from tollway.upstream.client import Client


def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    found = Client()
    yield found
    await found.close()
    assert found.stats() == {}
