"""A store of either engine, open and empty, for the conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tollway.config import Settings
from tollway.store.base import Store
from tollway.store.factory import open_store

ENGINES = [pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=ENGINES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty database of each engine. On PostgreSQL a module shares one."""
    if request.param == "sqlite":
        return Settings(data=str(tmp_path / "data"))
    return Settings(database_url=request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = open_store(settings)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Settings]:
    """Makes settings of a database nobody else uses, by engine."""

    def make(engine: str) -> Settings:
        if engine == "sqlite":
            return Settings(data=str(tmp_path / "fresh"))
        return Settings(database_url=request.getfixturevalue("postgres_database")())

    return make
