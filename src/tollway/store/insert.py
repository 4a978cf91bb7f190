"""Inserting a row unless it exists, which the two databases spell alike but SQLAlchemy does not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(conn: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless one of its unique columns is taken; True if it was inserted."""
    return conn.execute(_statement(table, conn.dialect.name), dict(row)).rowcount == 1


@cache
def _statement(table: Table, engine: str) -> Any:
    """Made once, because making it takes longer than running it."""
    insert = postgresql.insert if engine == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()
