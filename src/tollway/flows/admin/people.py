"""Accounts, projects and administrators."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from sqlalchemy import Connection

from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.refusals import Refused, invalid, unknown
from tollway.store import accounts, wallets

PASSWORD_MIN = 12
PASSWORD_MAX = 1024


class CreateAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to make, with a project "default"."""

    name: str


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The request of an operation that takes no arguments."""


class OneAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account, by id or name."""

    account: str


class AccountView(Struct, frozen=True, kw_only=True):
    """An account with its wallet, in credits."""

    id: str
    name: str
    status: str
    available: Decimal
    held: Decimal
    created_at: int


class CreateProject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project to make in an account."""

    name: str
    account: str = names.ACCOUNT


class ListProjects(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which projects to list: of one account, or (None) of all."""

    account: str | None = None


class ProjectView(Struct, frozen=True, kw_only=True):
    """A project as shown."""

    id: str
    name: str
    account: str
    status: str
    created_at: int


class CreateAdmin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An administrator to make. Only the hash of `password` is kept."""

    email: str
    password: str
    account: str = names.ACCOUNT

    def __repr__(self) -> str:
        return f"CreateAdmin(email={self.email!r})"


class UserView(Struct, frozen=True, kw_only=True):
    """A person as shown."""

    id: str
    email: str
    role: str
    status: str
    created_at: int


async def create_account(admin: Admin, request: CreateAccount) -> AccountView:
    """Make an account with an empty wallet and a project "default"."""
    names.name(request.name, "account")

    def work(change: Change) -> AccountView:
        if accounts.account(change.conn, request.name) is not None:
            _taken("account", request.name)
        account_id = change.new_id("acc")
        accounts.add_account(change.conn, id=account_id, name=request.name, now=change.now)
        accounts.add_project(
            change.conn, id=change.new_id("prj"), account_id=account_id, name=names.PROJECT, now=change.now
        )
        change.note("account.create", account_id, after={"name": request.name})
        return _account_view(change.conn, find_account(change.conn, account_id))

    return await admin.change(work)


async def list_accounts(admin: Admin, _: Nothing) -> list[AccountView]:
    """Every account with its balance."""
    return await admin.read(lambda conn: [_account_view(conn, one) for one in accounts.accounts(conn)])


async def suspend_account(admin: Admin, request: OneAccount) -> AccountView:
    """Make every key of an account answer 403 until it is resumed."""
    return await _set_account(admin, request.account, "suspended")


async def resume_account(admin: Admin, request: OneAccount) -> AccountView:
    """Let the keys of a suspended account work again."""
    return await _set_account(admin, request.account, "active")


async def _set_account(admin: Admin, reference: str, status: str) -> AccountView:
    def work(change: Change) -> AccountView:
        found = find_account(change.conn, reference)
        if found.status != status:
            accounts.set_account_status(change.conn, found.id, status)
            change.note(f"account.{status}", found.id, {"status": found.status}, {"status": status})
        return _account_view(change.conn, find_account(change.conn, found.id))

    return await admin.change(work)


async def create_project(admin: Admin, request: CreateProject) -> ProjectView:
    """Make a project."""
    names.name(request.name, "project")

    def work(change: Change) -> ProjectView:
        account = find_account(change.conn, request.account)
        if accounts.project(change.conn, request.name, account.id) is not None:
            _taken("project", request.name)
        project_id = change.new_id("prj")
        accounts.add_project(
            change.conn, id=project_id, account_id=account.id, name=request.name, now=change.now
        )
        change.note("project.create", project_id, after={"name": request.name, "account": account.name})
        return _project_view(find_project(change.conn, project_id, account))

    return await admin.change(work)


async def list_projects(admin: Admin, request: ListProjects) -> list[ProjectView]:
    """The projects of an account or of all."""

    def query(conn: Connection) -> list[ProjectView]:
        account = None if request.account is None else find_account(conn, request.account)
        return [_project_view(one) for one in accounts.projects(conn, account.id if account else None)]

    return await admin.read(query)


async def create_admin(admin: Admin, request: CreateAdmin) -> UserView:
    """Make a person with the role admin, who may sign in by password."""
    import asyncio  # noqa: PLC0415 - with argon2, needed by this operation only

    from argon2 import PasswordHasher  # noqa: PLC0415 - as above

    email = names.email(request.email)
    if not PASSWORD_MIN <= len(request.password) <= PASSWORD_MAX:
        invalid(
            "The password is too short"
            if len(request.password) < PASSWORD_MIN
            else "The password is too long",
            f"It needs {PASSWORD_MIN} to {PASSWORD_MAX} characters.",
        )
    hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    hashed = await asyncio.to_thread(hasher.hash, request.password)

    def work(change: Change) -> UserView:
        account = find_account(change.conn, request.account)
        if accounts.user(change.conn, email) is not None:
            _taken("user", email)
        made = accounts.User(
            id=change.new_id("usr"),
            account_id=account.id,
            email=email,
            role="admin",
            status="active",
            created_at=change.now,
        )
        accounts.add_user(change.conn, made, hashed)
        change.note("admin.create", made.id, after={"email": email, "role": "admin"})
        return UserView(
            id=made.id, email=email, role=made.role, status=made.status, created_at=made.created_at
        )

    return await admin.change(work)


def find_account(conn: Connection, reference: str) -> accounts.Account:
    """An account by id or name, or a refusal with names that resemble it."""
    found = accounts.account(conn, reference)
    if found is None:
        unknown("account", reference, [one.name for one in accounts.accounts(conn)])
    return found


def find_project(conn: Connection, reference: str, account: accounts.Account | None) -> accounts.Project:
    """A project by id or name within an account (None: any), or a refusal with names that resemble it."""
    account_id = None if account is None else account.id
    found = accounts.project(conn, reference, account_id)
    if found is None:
        unknown("project", reference, [one.name for one in accounts.projects(conn, account_id)])
    return found


def _account_view(conn: Connection, account: accounts.Account) -> AccountView:
    balance = wallets.balance(conn, account.wallet)
    return AccountView(
        id=account.id,
        name=account.name,
        status=account.status,
        available=amounts.shown(balance.available if balance else 0),
        held=amounts.shown(balance.held if balance else 0),
        created_at=account.created_at,
    )


def _project_view(project: accounts.Project) -> ProjectView:
    return ProjectView(
        id=project.id,
        name=project.name,
        account=project.account_name,
        status=project.status,
        created_at=project.created_at,
    )


def _taken(noun: str, name: str) -> None:
    raise Refused(
        "conflict",
        f"There is {'an' if noun == 'account' else 'a'} {noun} {name!r} already",
        f"The name of each {noun} is unique.",
        f"tollway {noun} list" if noun != "user" else "",
    )
