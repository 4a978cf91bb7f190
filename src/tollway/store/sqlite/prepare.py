"""Making the file ready to be served: sound, ours, and of this version's schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy.exc

from tollway.store import migrations
from tollway.store.base import DamagedDatabase, StoreError, UnknownSchema
from tollway.store.migrations import Scripts
from tollway.store.sqlite.connect import open_writer, writing_engine


def prepare(path: Path, scripts: Scripts, *, check: bool) -> None:
    """Create, upgrade or accept the database; the caller has the folder's lock.

    `check` has every page looked at first. Raises UnknownSchema, DamagedDatabase, StoreError.
    """
    try:
        with closing(open_writer(path)) as conn:
            if check:
                _quick_check(conn, path)
            _bring_up_to_date(conn, path, scripts)
    except (sqlite3.Error, sqlalchemy.exc.DBAPIError) as error:
        raise _meaning(path, error) from error


def _quick_check(conn: sqlite3.Connection, path: Path) -> None:
    found = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise DamagedDatabase(f"{path} is damaged ({found}); restore a backup")


def _bring_up_to_date(conn: sqlite3.Connection, path: Path, scripts: Scripts) -> None:
    engine = writing_engine(conn)
    with engine.begin() as sa:
        state = migrations.inspect(sa, str(path), scripts)
        if state == "empty":
            migrations.create(sa, scripts)
    if state == "older":
        _back_up(conn, path, scripts)
        with engine.begin() as sa:
            migrations.upgrade(sa, str(path), scripts)
            migrations.inspect(sa, str(path), scripts)


def _back_up(conn: sqlite3.Connection, path: Path, scripts: Scripts) -> None:
    """A whole copy beside the database, before anything in it is changed."""
    target = path.with_name(f"{path.name}.before-{scripts.head}")
    with closing(sqlite3.connect(target)) as copy:
        target.chmod(0o600)
        conn.backup(copy)


def _meaning(path: Path, error: Exception) -> StoreError:
    words = str(getattr(error, "orig", error))
    if "not a database" in words:
        return UnknownSchema(f"{path} is not a SQLite database; move it away or point --data elsewhere")
    if "malformed" in words:
        return DamagedDatabase(f"{path} is damaged ({words}); restore a backup")
    return StoreError(f"{path} cannot be opened: {words}")
