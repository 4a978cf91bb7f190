"""Every test of the guard runs on both event loops, in a pretended internet of its own."""

import asyncio

import pytest
import uvloop
from tests.upstream.guard.world import World


def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def world() -> World:
    return World()
