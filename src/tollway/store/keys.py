"""API keys as rows: how they are stored, found and changed. The secret itself is nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, Row, Select, bindparam, exists, insert, select, update

from tollway.core import json
from tollway.core.access.keys import Key
from tollway.store import caps, schema


class NewKey(Struct, frozen=True, kw_only=True):
    """A key to be stored: the columns of its row. `budget` is micro-credits; see core.access.keys.Key."""

    id: str
    account_id: str
    project_id: str
    name: str
    digest: bytes
    display: str
    created_at: int
    group: str = "default"
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget: int | None = None
    budget_period: str = "total"
    expires_at: int | None = None
    replaces: str | None = None
    tags: tuple[str, ...] = ()


class StoredKey(Struct, frozen=True, kw_only=True):
    """A key with what only its administration needs."""

    key: Key
    replaces: str | None
    tags: tuple[str, ...]


def add(conn: Connection, new: NewKey) -> None:
    """Insert a key."""
    conn.execute(
        insert(schema.api_key).values(
            id=new.id,
            account_id=new.account_id,
            project_id=new.project_id,
            name=new.name,
            digest=new.digest,
            display=new.display,
            key_group=new.group,
            models=json.encode(new.models).decode(),
            networks=json.encode(new.networks).decode(),
            rpm=new.rpm,
            tpm=new.tpm,
            concurrency=new.concurrency,
            budget=new.budget,
            budget_period=new.budget_period,
            expires_at=new.expires_at,
            replaces=new.replaces,
            tags=json.encode(new.tags).decode(),
            created_at=new.created_at,
        )
    )


def by_digest(conn: Connection, digest: bytes) -> Key | None:
    """The key whose secret has this keyed digest, whatever its status."""
    return by_digests(conn, (digest,)).get(digest)


def by_digests(conn: Connection, digests: Sequence[bytes]) -> dict[bytes, Key]:
    """The keys whose secrets have these keyed digests, whatever their status, with their caps."""
    found = {row.digest: _stored(row).key for row in conn.execute(_BY_DIGESTS, {"digests": digests})}
    ids = [key.id for key in found.values()]
    if not ids:
        return {}
    theirs, own = caps.of_keys(conn, ids), caps.of_keys(conn, ids, caps.OWN)
    return {
        digest: replace(key, caps=theirs.get(key.id, ()), own_caps=own.get(key.id, ()))
        for digest, key in found.items()
    }


def capped(conn: Connection, key: Key) -> Key:
    """A key with its caps, which queries for many keys leave out."""
    return replace(key, caps=caps.of_key(conn, key.id), own_caps=caps.of_key(conn, key.id, caps.OWN))


def by_reference(conn: Connection, reference: str, account_id: str | None = None) -> list[StoredKey]:
    """The keys with this id or name: those in use before revoked and replaced ones, newest first."""
    table = schema.api_key
    query = _keys().where((table.c.id == reference) | (table.c.name == reference))
    if account_id is not None:
        query = query.where(table.c.account_id == account_id)
    newer = schema.api_key.alias("newer")
    replaced = exists().where(newer.c.replaces == table.c.id)
    rows = conn.execute(
        query.order_by(table.c.status == "revoked", replaced, table.c.created_at.desc(), table.c.id.desc())
    )
    return [_stored(row) for row in rows]


def listed(conn: Connection, account_id: str | None = None, project_id: str | None = None) -> list[StoredKey]:
    """The keys of an account, a project or everyone, oldest first."""
    table = schema.api_key
    query = _keys().order_by(table.c.created_at, table.c.id)
    if account_id is not None:
        query = query.where(table.c.account_id == account_id)
    if project_id is not None:
        query = query.where(table.c.project_id == project_id)
    return [_stored(row) for row in conn.execute(query)]


def name_taken(conn: Connection, account_id: str, name: str) -> bool:
    """Whether a key of the account that is not revoked bears this name."""
    table = schema.api_key
    query = select(table.c.id).where(
        table.c.account_id == account_id, table.c.name == name, table.c.status != "revoked"
    )
    return conn.execute(query.limit(1)).first() is not None


def set_status(conn: Connection, key_id: str, status: str) -> None:
    """Make a key "active", "disabled" or "revoked"."""
    conn.execute(update(schema.api_key).where(schema.api_key.c.id == key_id).values(status=status))


def set_expiry(conn: Connection, key_id: str, expires_at: int) -> None:
    """Let a key stop working at a time in Unix milliseconds."""
    conn.execute(update(schema.api_key).where(schema.api_key.c.id == key_id).values(expires_at=expires_at))


def set_limits(conn: Connection, key_id: str, limits: dict[str, int | None]) -> None:
    """Change some of rpm, tpm, concurrency and budget."""
    conn.execute(update(schema.api_key).where(schema.api_key.c.id == key_id).values(**limits))


def _keys() -> Select[Any]:
    wallet, together = schema.ledger_account, schema.project_budget
    return (
        select(
            schema.api_key,
            schema.account.c.status.label("account_status"),
            schema.project.c.name.label("project_name"),
            wallet.c.id.label("wallet"),
            together.c.amount.label("project_budget"),
            together.c.period.label("project_period"),
        )
        .join(schema.account, schema.account.c.id == schema.api_key.c.account_id)
        .join(schema.project, schema.project.c.id == schema.api_key.c.project_id)
        .outerjoin(together, together.c.project_id == schema.api_key.c.project_id)
        .join(wallet, (wallet.c.owner == schema.api_key.c.account_id) & (wallet.c.kind == "wallet"))
    )


# Made once: making it takes longer than running it.
_BY_DIGESTS: Final = _keys().where(schema.api_key.c.digest.in_(bindparam("digests", expanding=True)))


def _stored(row: Row[Any]) -> StoredKey:
    key = Key(
        id=row.id,
        account_id=row.account_id,
        account_status=row.account_status,
        project_id=row.project_id,
        project_name=row.project_name,
        name=row.name,
        display=row.display,
        status=row.status,
        wallet=row.wallet,
        group=row.key_group,
        models=tuple(json.decode(row.models)),
        networks=tuple(json.decode(row.networks)),
        rpm=row.rpm,
        tpm=row.tpm,
        concurrency=row.concurrency,
        budget=row.budget,
        budget_period=row.budget_period,
        expires_at=row.expires_at,
        created_at=row.created_at,
        project_budget=row.project_budget,
        project_period=row.project_period or "total",
    )
    return StoredKey(key=key, replaces=row.replaces, tags=tuple(json.decode(row.tags)))
