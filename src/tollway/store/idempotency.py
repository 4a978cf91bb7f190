"""Idempotency keys: which call has one, what it answered, and when it is free again.

A row without an answer lives by its call's hold. While the hold is open the call runs; once it is
released, nothing was charged and the key is free, whether the call failed or its process died. So
nothing needs to be cleaned up after a crash. A hold that was settled while its answer is missing
is an answer about to be stored, or one that was lost with its process.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import Connection, Row, and_, delete, select, tuple_, update

from tollway.store import schema
from tollway.store.base import Claim, ClaimTaken
from tollway.store.insert import insert_once
from tollway.store.owners import STALE_MS
from tollway.store.wallets import beyond

BODY_MAX: Final = 1024 * 1024
"""Bytes of an answer that are kept; larger ones are remembered as answered, and cannot be replayed."""
ANSWER_MS: Final = 60_000
"""How long a process may take from the settlement of a call to the storing of its answer."""
_TRIES: Final = 5

TABLE: Final = schema.idempotency
HOLD: Final = schema.hold
WORKER: Final = schema.worker


State = Literal["running", "answered", "other", "free", "lost"]


class Answer(Struct, frozen=True, kw_only=True):
    """What a call answered. `headers` is a block of lines; `body` None was too large to be kept."""

    status: int
    headers: bytes
    body: bytes | None


class Standing(Struct, frozen=True, kw_only=True):
    """What an idempotency key stands for. `call_id`: whose it is.

    `state`: "running"; "answered", with the `answer`; "other", for another request under the same
    key; "free", because nothing was charged; or "lost", with what its call was charged and not
    refunded in `owed`.
    """

    state: State
    call_id: str
    answer: Answer | None = None
    owed: int = 0


def find(conn: Connection, claim: Claim, now: int) -> Standing | None:
    """What a key stands for at `now` (Unix ms), None if it was never used or has expired."""
    found = conn.execute(_query(claim)).first()
    return None if found is None or found.expires_at <= now else _standing(conn, found, claim, now)


def take(conn: Connection, claim: Claim, call_id: str, now: int) -> Standing | None:
    """Take a key for a call, in the transaction of its hold. Returns a lost call it was taken from.

    Raises ClaimTaken if it is not free.
    """
    fresh = {
        "fingerprint": claim.fingerprint,
        "call_id": call_id,
        "created_at": now,
        "expires_at": claim.expires_at,
        "answered_at": None,
        "status": None,
        "headers": None,
        "body": None,
    }
    name = {"key_id": claim.key_id, "route": claim.route, "name": claim.name}
    for _ in range(_TRIES):
        if insert_once(conn, TABLE, {**name, **fresh}):
            return None
        found = conn.execute(_query(claim).with_for_update(of=TABLE)).first()
        if found is None:
            continue  # It expired between the two statements.
        if found.call_id == call_id:
            return None
        standing = None if found.expires_at <= now else _standing(conn, found, claim, now)
        if standing is not None and standing.state not in ("free", "lost"):
            raise ClaimTaken(f"the idempotency key belongs to {found.call_id}")
        change = update(TABLE).where(_is(claim), TABLE.c.call_id == found.call_id).values(**fresh)
        if conn.execute(change).rowcount == 1:
            return standing if standing is not None and standing.state == "lost" else None
    raise ClaimTaken("the idempotency key is contended")


def store(conn: Connection, claim: Claim, call_id: str, answer: Answer, now: int) -> bool:
    """Keep the answer of the call that has the key. False if it has it no more, or was not charged.

    What was not charged may be tried again, so it is not an answer to keep.
    """
    paid = select(HOLD.c.id).where(HOLD.c.id == call_id, HOLD.c.state == "settled")
    if conn.execute(paid).first() is None:
        return False
    body = answer.body
    if body is not None and len(body) > BODY_MAX:
        body = None
    change = update(TABLE).where(_is(claim), TABLE.c.call_id == call_id, TABLE.c.answered_at.is_(None))
    values = {
        "answered_at": now,
        "status": answer.status,
        "headers": answer.headers,
        "body": None if body is None else zlib.compress(body, 1),
    }
    return conn.execute(change.values(**values)).rowcount == 1


def expire(conn: Connection, now: int, limit: int) -> int:
    """Forget up to `limit` keys whose time is over; returns how many."""
    name = (TABLE.c.key_id, TABLE.c.route, TABLE.c.name)
    old = select(*name).where(TABLE.c.expires_at <= now).order_by(TABLE.c.expires_at).limit(limit)
    # A key may have been taken anew since it was found.
    gone = delete(TABLE).where(tuple_(*name).in_(old), TABLE.c.expires_at <= now)
    return conn.execute(gone).rowcount


def _is(claim: Claim) -> Any:
    return and_(TABLE.c.key_id == claim.key_id, TABLE.c.route == claim.route, TABLE.c.name == claim.name)


def _query(claim: Claim) -> Any:
    return select(TABLE).where(_is(claim))


def _standing(conn: Connection, row: Row[Any], claim: Claim, now: int) -> Standing:
    state: State = "answered"
    owed = 0
    if row.answered_at is None:
        state, owed = _unanswered(conn, row.call_id, now)
    if state != "free" and row.fingerprint != claim.fingerprint:
        return Standing(state="other", call_id=row.call_id)
    if state == "answered":
        body = None if row.body is None else zlib.decompress(row.body)
        answer = Answer(status=row.status, headers=row.headers, body=body)
        return Standing(state="answered", call_id=row.call_id, answer=answer)
    return Standing(state=state, call_id=row.call_id, owed=owed)


def _unanswered(conn: Connection, call_id: str, now: int) -> tuple[State, int]:
    """How a call without a stored answer stands, by its hold and the life of the process that made it."""
    query = select(
        HOLD.c.state,
        HOLD.c.settled,
        (HOLD.c.refunded + HOLD.c.refunded_over).label("refunded"),
        beyond(HOLD.c.id).label("over"),
        HOLD.c.closed_at,
        WORKER.c.heartbeat_at,
        WORKER.c.stopped_at,
    ).select_from(HOLD.outerjoin(WORKER, WORKER.c.id == HOLD.c.owner))
    found = conn.execute(query.where(HOLD.c.id == call_id)).first()
    if found is None or found.state == "released":
        return "free", 0
    if found.state == "held":
        return "running", 0
    alive = (
        found.heartbeat_at is not None and found.stopped_at is None and found.heartbeat_at > now - STALE_MS
    )
    if alive and found.closed_at > now - ANSWER_MS:
        return "running", 0
    return "lost", found.settled + found.over - found.refunded
