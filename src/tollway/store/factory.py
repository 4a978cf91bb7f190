"""Choosing the database: SQLite in the data folder unless a PostgreSQL URL is given."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tollway.config import Settings
from tollway.store.base import Store, StoreError

POSTGRES: Final = ("postgres://", "postgresql://", "postgresql+asyncpg://")


def unix_ms() -> int:
    """The time, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def open_store(settings: Settings, owner: str | None = None, clock: Callable[[], int] = unix_ms) -> Store:
    """The store of these settings, not yet opened: `await store.open()` does that.

    `owner` names this process in its holds; by default a name no other process ever has. Raises
    StoreError for a database_url of another kind.
    """
    owner = owner or os.urandom(12).hex()
    if not settings.database_url:
        from tollway.store.sqlite.store import SqliteStore  # noqa: PLC0415 - only one engine is ever needed

        return SqliteStore(Path(settings.data), owner, clock, ballast=settings.ballast)
    for scheme in POSTGRES:
        if settings.database_url.startswith(scheme):
            from tollway.store.postgres.store import PostgresStore  # noqa: PLC0415 - costs 0.4 s

            url = "postgresql://" + settings.database_url.removeprefix(scheme)
            return PostgresStore(url, owner, clock)
    kind = settings.database_url.partition(":")[0]
    raise StoreError(f"database_url must begin with postgresql:// (or be empty for SQLite), not {kind}:")
