"""What a key has used, to the last call: stored sums as far as they go, and the calls since then."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, func, select

from tollway.store import schema
from tollway.store.rollups import usage
from tollway.store.rollups.usage import fresh_until

CALL = schema.call


class Use(Struct, frozen=True):
    """Calls, and what they were charged in micro-credits."""

    calls: int
    charged: int


def since(conn: Connection, key_id: str, start: int, now: int) -> Use:
    """What a key has used from `start` (Unix ms) until now; `start` is at a whole quarter of an hour."""
    fresh = fresh_until(conn)
    calls = charged = 0
    if start < fresh <= now:
        for one in usage(conn, since=start, until=fresh, key=key_id):
            calls += one.calls
            charged += one.charged
    else:
        fresh = start
    query = select(func.count(), func.coalesce(func.sum(CALL.c.charged), 0))
    query = query.where(CALL.c.finished_at >= max(start, fresh), CALL.c.key_id == key_id)
    more, also = conn.execute(query).one()
    return Use(calls + more, charged + int(also))


def last_used(conn: Connection, account_id: str, key_id: str) -> int | None:
    """When a key's newest call on record began."""
    query = select(CALL.c.created_at).where(CALL.c.account_id == account_id, CALL.c.key_id == key_id)
    return conn.execute(query.order_by(CALL.c.created_at.desc()).limit(1)).scalar()
