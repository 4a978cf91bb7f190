"""Named facts about a database: which instance key it belongs to, and whether it has been set up."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tollway.store.insert import insert_once
from tollway.store.schema import instance, revision


def fact(conn: Connection, name: str) -> str | None:
    """The value of a named fact, or None if it was never stated."""
    return conn.execute(select(instance.c.value).where(instance.c.name == name)).scalar()


def state_once(conn: Connection, name: str, value: str) -> bool:
    """State a fact unless it has been stated; True if this call was the first.

    When two transactions state the same fact at once, the second waits for the first to end.
    """
    return insert_once(conn, instance, {"name": name, "value": value})


def revision_of(conn: Connection, topic: str) -> int:
    """How often a topic ("keys" or "catalogue") has changed; 0 before the first change."""
    return conn.execute(select(revision.c.number).where(revision.c.topic == topic)).scalar() or 0
