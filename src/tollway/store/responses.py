"""Stored responses: whose they are, how one follows another, and when they go.

A turn is a row of its own that names the one before it, and a conversation is read by following
these names in one query. Flattened copies would be read a little faster, and would make a
conversation of n turns cost n squared; here a turn costs what it says, and deleting one leaves
no copy of it anywhere.

Every look-up asks for the owner: whoever is not it finds nothing, as if there were nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from tollway.core import json
from tollway.store import schema

SMALL: Final = 2048
"""Bytes below which compression is not worth its while."""
GRACE_MS: Final = 3_600_000
"""How long after its end a response stays for calls that had already begun to build on it."""
_COMPRESSED: Final = b"x"
"""How compressed bytes begin, and no JSON does."""

_table: Final = schema.response
_items: Final = schema.response_item


class Owner(Struct, frozen=True):
    """Who may see a response: every key of its project."""

    account_id: str
    project_id: str


class NewResponse(Struct, frozen=True, kw_only=True):
    """A response to be kept. `request`: the turn's input items, `output`: its output items, `response`: the rest.

    All three are packed. `scope`: the account behind the channel that answered, whose seals may be
    among the output. `thread` names the conversation by its first response. `depth` counts the
    conversation's turns up to this one; `size`: bytes of this turn's items, `total`: of the
    conversation's. `items`: ids an upstream chose. Times are Unix milliseconds.
    """

    id: str
    owner: Owner
    key_id: str
    model: str
    scope: str
    thread: str
    previous_id: str | None
    depth: int
    size: int
    total: int
    status: str
    created_at: int
    expires_at: int
    request: bytes
    output: bytes
    response: bytes
    items: tuple[str, ...] = ()


class Head(Struct, frozen=True):
    """The last response of a conversation, without what it says."""

    id: str
    thread: str
    depth: int
    total: int


class Turn(Struct, frozen=True):
    """One turn of a conversation as it was kept: what was given and what was answered, packed."""

    id: str
    previous_id: str | None
    depth: int
    scope: str
    request: bytes
    output: bytes


class Answer(Struct, frozen=True):
    """A response as it was kept: all but its output, and its output, packed."""

    response: bytes
    output: bytes


# Written once, because writing them costs more than running them.
_MINE: Final = and_(_table.c.account_id == bindparam("account"), _table.c.project_id == bindparam("project"))
_VISIBLE: Final = and_(_MINE, _table.c.expires_at > bindparam("now"))
_TURNS: Final[Select[Any]] = select(
    *(_table.c[name] for name in ("id", "previous_id", "depth", "scope", "request", "output"))
)


def _chain() -> Select[Any]:
    columns = (_table.c.id, _table.c.previous_id, _table.c.depth)
    last = select(*columns).where(_table.c.id == bindparam("response"), _MINE)
    turns = last.cte("turns", recursive=True)
    # Going down by exactly one, it ends whatever the rows say.
    before = and_(_table.c.id == turns.c.previous_id, _table.c.depth == turns.c.depth - 1, _MINE)
    turns = turns.union_all(select(*columns).join_from(turns, _table, before))
    return _TURNS.join_from(turns, _table, _table.c.id == turns.c.id).order_by(_table.c.depth)


_FIELDS: Final = tuple(name for name in NewResponse.__struct_fields__ if name not in ("owner", "items"))
_INSERTS: Final = {
    "sqlite": tuple(sqlite.insert(one).on_conflict_do_nothing() for one in (_table, _items)),
    "postgresql": tuple(postgresql.insert(one).on_conflict_do_nothing() for one in (_table, _items)),
}
_HEAD: Final = select(_table.c.id, _table.c.thread, _table.c.depth, _table.c.total).where(
    _table.c.id == bindparam("response"), _VISIBLE
)
_CHAIN: Final = _chain()


def pack(value: Any) -> bytes:
    """A value as JSON, compressed where that helps."""
    return packed(json.encode(value))


def packed(encoded: bytes) -> bytes:
    """JSON, compressed where that helps."""
    return encoded if len(encoded) <= SMALL else zlib.compress(encoded, 1)


def unpack(kept: bytes) -> Any:
    """What was packed."""
    return json.decode(zlib.decompress(kept) if kept[:1] == _COMPRESSED else kept)


def add(conn: Connection, *rows: NewResponse) -> None:
    """Keep responses; those that are there already, as a repeated change may find them, stay as they are."""
    table, items = _INSERTS[conn.dialect.name]
    conn.execute(table, [_row(row) for row in rows])
    found = [{"response_id": row.id, "item_id": one} for row in rows for one in row.items]
    if found:
        conn.execute(items, found)


def _row(new: NewResponse) -> dict[str, Any]:
    row = {name: getattr(new, name) for name in _FIELDS}
    return {**row, "account_id": new.owner.account_id, "project_id": new.owner.project_id}


def by_id(conn: Connection, owner: Owner, response_id: str, now: int) -> Answer | None:
    """One response that has not expired."""
    query = select(_table.c.response, _table.c.output)
    found = conn.execute(query.where(_table.c.id == response_id, _visible(owner, now))).first()
    return None if found is None else Answer(bytes(found.response), bytes(found.output))


def head(conn: Connection, owner: Owner, response_id: str, now: int) -> Head | None:
    """What must be known of a response before its conversation is read."""
    asked = {**_owned(owner), "response": response_id, "now": now}
    found = conn.execute(_HEAD, asked).first()
    return None if found is None else Head(*found)


def chain(conn: Connection, owner: Owner, response_id: str) -> list[Turn]:
    """A response and all before it, oldest first. It begins with depth 1 unless one of them is gone.

    Those before it are read although they have expired: a conversation lives as long as its last turn.
    """
    return [_turn(row) for row in conn.execute(_CHAIN, {**_owned(owner), "response": response_id})]


def remove(conn: Connection, owner: Owner, response_id: str, now: int) -> bool:
    """Delete a response; True for the one who did."""
    gone = delete(_table).where(_table.c.id == response_id, _visible(owner, now))
    return conn.execute(gone).rowcount == 1


def holders(conn: Connection, owner: Owner, item_ids: Sequence[str], now: int) -> dict[str, str]:
    """Item id -> the newest response that has such an item, for ids that upstreams chose."""
    query = (
        select(_items.c.item_id, _items.c.response_id)
        .join(_table, _table.c.id == _items.c.response_id)
        .where(_items.c.item_id.in_(item_ids), _visible(owner, now))
        .order_by(_table.c.created_at, _table.c.id)
    )
    return {row.item_id: row.response_id for row in conn.execute(query)}


def sizes(conn: Connection, owner: Owner, ids: Collection[str], now: int) -> int:
    """The bytes that these responses hold together."""
    query = select(func.coalesce(func.sum(_table.c.size), 0))
    return int(conn.execute(query.where(_table.c.id.in_(ids), _visible(owner, now))).scalar_one())


def several(conn: Connection, owner: Owner, ids: Collection[str], now: int) -> list[Turn]:
    """Responses by their ids; those that are not there are left out."""
    return [_turn(row) for row in conn.execute(_TURNS.where(_table.c.id.in_(ids), _visible(owner, now)))]


def expire(conn: Connection, now: int, limit: int) -> int:
    """Delete up to `limit` responses whose conversation is over; returns how many. Run until it is 0."""
    cutoff = now - GRACE_MS
    later = _table.alias("later")
    living = exists().where(later.c.thread == _table.c.thread, later.c.expires_at > cutoff)
    over = select(_table.c.id).where(_table.c.expires_at <= cutoff, ~living)
    ids = list(conn.execute(over.order_by(_table.c.expires_at).limit(limit)).scalars())
    return conn.execute(delete(_table).where(_table.c.id.in_(ids))).rowcount if ids else 0


def _visible(owner: Owner, now: int) -> ColumnElement[bool]:
    return and_(
        _table.c.account_id == owner.account_id,
        _table.c.project_id == owner.project_id,
        _table.c.expires_at > now,
    )


def _owned(owner: Owner) -> dict[str, str]:
    return {"account": owner.account_id, "project": owner.project_id}


def _turn(row: Row[Any]) -> Turn:
    return Turn(row.id, row.previous_id, row.depth, row.scope, bytes(row.request), bytes(row.output))
