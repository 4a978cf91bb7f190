"""Connections to the SQLite file: the one that writes, those that only read, and SQLAlchemy over both.

SQLite before 3.51.3 can corrupt a database in WAL mode when two connections write or checkpoint
at the same time, so exactly one connection ever does either.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

BUSY_MS: Final = 500
"""How long a write waits for another program's lock before it counts as failed."""
READERS: Final = 4
LOG_PAGES: Final = 4000
"""Pages of 16 MiB of log are written back at once: the busiest of them many times changed."""

# Binding NULL asks the adapters, and where none is known raises and drops two errors for each value; rows of calls
# are full of them. This one gives None for None without running any Python.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type] # it is only ever given None


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection; commits are durable when they return. Raises sqlite3.Error."""
    if not path.exists():
        # Never on an existing file: closing any descriptor of it would drop the locks SQLite holds.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # The event loop and the writer's thread take turns with it; see writer.py.
    conn = sqlite3.connect(
        path, isolation_level=None, timeout=0, cached_statements=256, check_same_thread=False
    )
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            # Without it, INSERT OR REPLACE deletes rows past the triggers that forbid it.
            "recursive_triggers = ON",
            "trusted_schema = OFF",
            "secure_delete = OFF",
            "cache_size = -16384",
        ):
            conn.execute(f"PRAGMA {pragma}")
        write_back(conn, at=LOG_PAGES)
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def patience(conn: sqlite3.Connection, milliseconds: int) -> None:
    """How long statements wait for another program's lock: not at all on the event loop."""
    conn.execute(f"PRAGMA busy_timeout = {int(milliseconds)}")


def write_back(conn: sqlite3.Connection, *, at: int) -> None:
    """Let commits write the log back to the database when it has that many pages; 0 for never."""
    conn.execute(f"PRAGMA wal_autocheckpoint = {int(at)}")


def writing_engine(conn: sqlite3.Connection) -> Engine:
    """SQLAlchemy over the writing connection, for the thread that owns it. Transactions lock at once."""
    engine = create_engine("sqlite://", creator=lambda: conn, poolclass=StaticPool)
    event.listen(engine, "begin", _begin("BEGIN IMMEDIATE"))
    return engine


def reading_engine(path: Path) -> Engine:
    """SQLAlchemy over a few connections that cannot write; each transaction sees one moment."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: _open_reader(path),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
    )
    event.listen(engine, "begin", _begin("BEGIN"))
    return engine


def _open_reader(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(
        path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False, cached_statements=128
    )
    conn.execute("PRAGMA query_only = ON")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    return conn


def _begin(statement: str) -> Callable[[Connection], Any]:
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql(statement)

    return begin
