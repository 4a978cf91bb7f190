"""What a key has used, to the last call: stored sums as far as they go, and the calls since then."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, func, select, text

from tollway.store import schema
from tollway.store.rollups import places, usage
from tollway.store.rollups.sums import HOUR_MS, built
from tollway.store.rollups.usage import fresh_until

CALL = schema.call
SUMS = schema.rollup
PLACE = schema.rollup_place
LONGEST_MS: Final = 86_400_000
"""No call takes longer from its beginning to its end."""


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
    """When a key's newest call began; where that was deleted, the quarter of an hour it finished in."""
    owner = places.owner(conn, {"account_id": account_id, "key_id": key_id}) or 0
    hour = _last_hour(conn, owner, key_id)
    since = built(conn)["hour"] if hour is None else hour
    query = select(CALL.c.created_at).where(CALL.c.account_id == account_id, CALL.c.key_id == key_id)
    # All calls of the account would be read to find that a key has made none.
    query = query.where(CALL.c.created_at >= since - LONGEST_MS)
    found: int | None = conn.execute(query.order_by(CALL.c.created_at.desc()).limit(1)).scalar()
    if found is not None:
        return found
    gone = select(func.max(SUMS.c.bucket)).join_from(SUMS, PLACE, PLACE.c.id == SUMS.c.place)
    gone = gone.where(SUMS.c.owner == owner, SUMS.c.bucket >= since, PLACE.c.key_id == key_id)
    if hour is not None:
        gone = gone.where(SUMS.c.bucket < hour + HOUR_MS)
    gone = gone.where(SUMS.c.kept == 1, SUMS.c.calls > 0)
    before: int | None = conn.execute(gone).scalar()
    return before


def _last_hour(conn: Connection, owner: int, key_id: str) -> int | None:
    """The last hour (Unix ms) with calls of a key, as far as hours are summed."""
    above = schema.rollup_sum
    query = select(func.max(above.c.bucket)).join_from(above, PLACE, PLACE.c.id == above.c.place)
    # The partial index on owners is used where its condition is said in its own words.
    query = query.where(above.c.owner == owner, text("rollup_sum.owner > 0"))
    query = query.where(PLACE.c.key_id == key_id, above.c.calls > 0)
    found: int | None = conn.execute(query.where(above.c.span == "hour", above.c.grain == "key")).scalar()
    return found
