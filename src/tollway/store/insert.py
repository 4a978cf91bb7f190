"""Inserting a row unless it exists, which the two databases spell alike but SQLAlchemy does not."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(conn: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless one of its unique columns is taken; True if it was inserted."""
    if conn.dialect.name == "postgresql":
        return conn.execute(postgresql.insert(table).values(**row).on_conflict_do_nothing()).rowcount == 1
    return conn.execute(sqlite.insert(table).values(**row).on_conflict_do_nothing()).rowcount == 1
