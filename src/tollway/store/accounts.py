"""Accounts, their projects and their people, as rows and as values."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, Select, insert, select, update

from tollway.store import schema


class Account(Struct, frozen=True, kw_only=True):
    """Who pays. `status`: "active" or "suspended". `wallet`: its ledger account."""

    id: str
    name: str
    status: str
    wallet: int
    created_at: int


class Project(Struct, frozen=True, kw_only=True):
    """A part of an account to which keys belong. `status`: "active" or "disabled"."""

    id: str
    account_id: str
    account_name: str
    name: str
    status: str
    created_at: int


class User(Struct, frozen=True, kw_only=True):
    """A person. `role`: "admin" or "member"; the password's hash is not part of the value."""

    id: str
    account_id: str
    email: str
    role: str
    status: str
    created_at: int


def add_account(conn: Connection, *, id: str, name: str, now: int) -> int:  # noqa: A002 - the column's name
    """Insert an account with an empty wallet; returns the wallet's ledger account."""
    conn.execute(insert(schema.account).values(id=id, name=name, created_at=now))
    table = schema.ledger_account
    wallet: int = conn.execute(
        insert(table).values(kind="wallet", owner=id).returning(table.c.id)
    ).scalar_one()
    return wallet


def add_project(conn: Connection, *, id: str, account_id: str, name: str, now: int) -> None:  # noqa: A002 - as above
    """Insert a project."""
    conn.execute(insert(schema.project).values(id=id, account_id=account_id, name=name, created_at=now))


def add_user(conn: Connection, user: User, password_hash: str | None) -> None:
    """Insert a person with the argon2id hash of a password, or without a password."""
    conn.execute(
        insert(schema.user).values(
            id=user.id,
            account_id=user.account_id,
            email=user.email,
            role=user.role,
            password=password_hash,
            status=user.status,
            created_at=user.created_at,
        )
    )


def account(conn: Connection, reference: str) -> Account | None:
    """An account by its id or its name."""
    table = schema.account
    found = conn.execute(_accounts().where((table.c.id == reference) | (table.c.name == reference))).first()
    return None if found is None else _account(found)


def accounts(conn: Connection) -> list[Account]:
    """Every account, oldest first."""
    rows = conn.execute(_accounts().order_by(schema.account.c.created_at, schema.account.c.name))
    return [_account(row) for row in rows]


def set_account_status(conn: Connection, account_id: str, status: str) -> None:
    """Make an account "active" or "suspended"."""
    conn.execute(update(schema.account).where(schema.account.c.id == account_id).values(status=status))


def project(conn: Connection, reference: str, account_id: str | None = None) -> Project | None:
    """A project by its id, or by its name within an account (or, with none given, the oldest of that name)."""
    table = schema.project
    query = _projects().where((table.c.id == reference) | (table.c.name == reference))
    if account_id is not None:
        query = query.where(table.c.account_id == account_id)
    found = conn.execute(query.order_by(table.c.created_at, table.c.id)).first()
    return None if found is None else _project(found)


def projects(conn: Connection, account_id: str | None = None) -> list[Project]:
    """The projects of one account or of all, oldest first."""
    query = _projects().order_by(schema.project.c.created_at, schema.project.c.name)
    if account_id is not None:
        query = query.where(schema.project.c.account_id == account_id)
    return [_project(row) for row in conn.execute(query)]


def user(conn: Connection, email: str) -> User | None:
    """A person by e-mail address."""
    table = schema.user
    found = conn.execute(_users().where(table.c.email == email)).first()
    return None if found is None else _user(found)


def has_admin(conn: Connection) -> bool:
    """Whether an active administrator exists."""
    table = schema.user
    query = select(table.c.id).where(table.c.role == "admin", table.c.status == "active").limit(1)
    return conn.execute(query).first() is not None


def _accounts() -> Select[Any]:
    wallet = schema.ledger_account
    return select(schema.account, wallet.c.id.label("wallet")).join(
        wallet, (wallet.c.owner == schema.account.c.id) & (wallet.c.kind == "wallet")
    )


def _projects() -> Select[Any]:
    return select(schema.project, schema.account.c.name.label("account_name")).join(schema.account)


def _users() -> Select[Any]:
    table = schema.user
    return select(
        table.c.id, table.c.account_id, table.c.email, table.c.role, table.c.status, table.c.created_at
    )


def _account(row: Row[Any]) -> Account:
    return Account(**row._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping of a row


def _project(row: Row[Any]) -> Project:
    return Project(**row._mapping)  # noqa: SLF001 - as above


def _user(row: Row[Any]) -> User:
    return User(**row._mapping)  # noqa: SLF001 - as above
