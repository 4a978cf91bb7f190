"""How far the bookkeeping has come: a number by topic, kept where every process sees it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from tollway.store.insert import insert_once
from tollway.store.schema import mark

ROLLED: Final = "rolled"
"""Calls that finished before this time (Unix ms) are rolled up, but for stragglers a recount finds."""
SUMMED: Final = "summed"
"""Calls that finished before this time (Unix ms) were summed, each once, but for stragglers."""
RECOUNTED: Final = "recounted"
"""When the counts of rollups and calls were last compared (Unix ms)."""
PRUNED: Final = "pruned"
"""Calls that finished before this time (Unix ms) may have been deleted."""
PROVEN: Final = "proven"
"""When the ledger was last proven (Unix ms): all of it, or what was new."""
PROVED_SEQ: Final = "proved_seq"
"""Entries up to this number were proved, with all that belongs to them."""
PROVED_SINCE: Final = "proved_since"
"""Calls that finished before this time (Unix ms) were, too."""
PROVED_WHOLE: Final = "proved_whole"
"""When everything was last proved, and held (Unix ms)."""
BROKEN: Final = "broken"
"""When the ledger was last found broken (Unix ms); 0 once it was proven again."""
_VALUE: Final = select(mark.c.value).where(mark.c.topic == bindparam("one"))


def value(conn: Connection, topic: str) -> int:
    """The number of a topic; 0 if it was never set."""
    return conn.execute(_VALUE, {"one": topic}).scalar() or 0


def put(conn: Connection, topic: str, number: int) -> None:
    """Set the number of a topic."""
    if not insert_once(conn, mark, {"topic": topic, "value": number}):
        conn.execute(update(mark).where(mark.c.topic == topic).values(value=number))


def advance(conn: Connection, topic: str, number: int) -> None:
    """Set the number of a topic unless it is larger already."""
    if not insert_once(conn, mark, {"topic": topic, "value": number}):
        conn.execute(update(mark).where(mark.c.topic == topic, mark.c.value < number).values(value=number))
