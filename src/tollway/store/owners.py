"""Which processes own open holds, and giving back the holds of those that died."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, exists, literal_column, select, update

from tollway.store.insert import insert_once
from tollway.store.schema import hold, worker

HEARTBEAT_SECONDS: Final = 5.0
STALE_MS: Final = 20_000
"""A process that has not been heard of for so long is dead."""
FORGET_MS: Final = 24 * 3600 * 1000
SWEEP_MAX: Final = 5_000
"""Holds released in one transaction, so that no call waits long for a sweep."""
OPEN: Final = hold.c.state == literal_column("'held'")
"""Whether a hold is open. Not a parameter: SQLite would look into it for its partial index, and so prepare the
statement anew each time."""


def register(conn: Connection, owner: str, host: str, pid: int, now: int) -> None:
    """Announce a process as a live owner of holds."""
    facts = {"host": host, "pid": pid, "started_at": now, "heartbeat_at": now, "stopped_at": None}
    if not insert_once(conn, worker, {"id": owner, **facts}):
        conn.execute(update(worker).where(worker.c.id == owner).values(**facts))


def heartbeat(conn: Connection, owner: str, now: ColumnElement[int] | int) -> None:
    """Renew the claim on open holds."""
    conn.execute(update(worker).where(worker.c.id == owner).values(heartbeat_at=now))


def stop(conn: Connection, owner: str, now: int) -> None:
    """Give up the claim on open holds."""
    conn.execute(update(worker).where(worker.c.id == owner).values(stopped_at=now))


def dead(now: ColumnElement[int] | int) -> ColumnElement[bool]:
    """Whether the owner of a hold is not known to be alive."""
    alive = select(worker.c.id).where(
        worker.c.id == hold.c.owner, worker.c.stopped_at.is_(None), worker.c.heartbeat_at > now - STALE_MS
    )
    return ~exists(alive)


def foreign(owner: str) -> ColumnElement[bool]:
    """Whether a hold is not `owner`'s."""
    return hold.c.owner != owner


def release(conn: Connection, whose: ColumnElement[bool], now: int) -> int:
    """Release up to SWEEP_MAX open holds, uncharged; returns how many. Fewer than SWEEP_MAX means all are done."""
    chosen = select(hold.c.id).where(OPEN, whose).limit(SWEEP_MAX)
    chosen = chosen.with_for_update(skip_locked=True, of=hold)
    change = update(hold).where(hold.c.id.in_(chosen), OPEN)
    return conn.execute(change.values(state="released", reason="owner_dead", closed_at=now)).rowcount


def forget(conn: Connection, now: ColumnElement[int] | int) -> None:
    """Delete processes that ended a day ago."""
    conn.execute(delete(worker).where(worker.c.heartbeat_at < now - FORGET_MS))
