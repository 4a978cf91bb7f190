"""Fixtures for all tests: a real PostgreSQL, started once per test process, and fresh databases in it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.postgres import PostgresServer

from tollway.config import Settings
from tollway.store.factory import open_store

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server with a database `migrated` that has the current schema."""
    server = PostgresServer()
    try:
        server.start()
        server.sql("CREATE DATABASE migrated")

        async def migrate() -> None:
            store = open_store(Settings(database_url=server.url("migrated")), owner="template")
            await store.open()
            await store.close()

        # In a thread, because the first to ask for the fixture may be inside a running loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, migrate()).result()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer) -> Callable[[], str]:
    """Makes a fresh database with the current schema; returns its URL."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        postgres.sql(f"CREATE DATABASE {name} TEMPLATE migrated")
        return postgres.url(name)

    return make


@pytest.fixture(scope="module")
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of a database of the test module's own."""
    return postgres_database()
