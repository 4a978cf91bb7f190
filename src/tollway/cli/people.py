"""`tollway project`, `tollway account` and `tollway admin`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, amount_or_none, noun
from tollway.cli.credentials import read_password
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

AccountRef = Annotated[str, Parameter(help="Its id or name.")]
Period = Literal["total", "daily", "weekly", "monthly"]

projects = noun(
    "project",
    "Make and list projects.",
    """
tollway project create website
tollway key create --name web --project website
tollway project list
""",
)
accounts = noun(
    "account",
    "Make and list accounts. An account pays: it has a wallet of its own.",
    """
tollway account create acme
tollway credits grant 500 --account acme
tollway account list
""",
)
admins = noun(
    "admin",
    "Make administrators.",
    """
tollway admin create --email you@example.com
printf %s "$PASSWORD" | tollway admin create --email you@example.com --password-stdin
""",
)

PROJECTS: Final = (
    field("id"),
    field("name"),
    field("account"),
    field("status"),
    Column("CREATED", lambda row: when(row["created_at"])),
)
ACCOUNTS: Final = (
    field("id"),
    field("name"),
    field("status"),
    field("available", right=True),
    field("held", right=True),
    Column("CREATED", lambda row: when(row["created_at"])),
)


@projects.command(name="create")
def create_project(
    name: Annotated[str, Parameter(help="Its name, unique within the account.")],
    *,
    account: Annotated[str | None, Parameter(help="Its account (default: main).")] = None,
    common: Common = DEFAULT,
) -> None:
    """Make a project."""
    found = perform(common, "project.create", name=name, account=account)
    one(common, found, (("id", found["id"]), ("name", found["name"]), ("account", found["account"])))
    say(common, f"Made the project {found['name']!r}.")


@projects.command(name="budget")
def budget_project(
    name: Annotated[str, Parameter(help="The project.")],
    amount: Annotated[str, Parameter(help="Credits its keys may spend together, or none.")],
    /,
    *,
    period: Annotated[Period | None, Parameter(help="When the budget starts anew (default: never).")] = None,
    account: Annotated[str | None, Parameter(help="Its account (default: main).")] = None,
    common: Common = DEFAULT,
) -> None:
    """Limit what all keys of a project may spend together."""
    wanted = amount_or_none(amount)
    found = perform(common, "project.budget", project=name, amount=wanted, period=period, account=account)
    facts = (
        ("project", found["name"]),
        ("budget", None if found["limit"] is None else f"{found['limit']} credits {found['period']}"),
        ("used", f"{found['used']} credits"),
        ("held", f"{found['held']} credits"),
        ("resets", when(found["resets_at"])),
    )
    one(common, found, facts)


@projects.command(name="list")
def list_projects(
    *,
    account: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    common: Common = DEFAULT,
) -> None:
    """List projects."""
    rows(common, perform(common, "project.list", account=account), PROJECTS, empty="No projects.")


@accounts.command(name="create")
def create_account(
    name: Annotated[str, Parameter(help="Its name, unique.")], *, common: Common = DEFAULT
) -> None:
    """Make an account with an empty wallet and a project "default"."""
    found = perform(common, "account.create", name=name)
    one(common, found, (("id", found["id"]), ("name", found["name"]), ("available", found["available"])))
    say(
        common,
        f"Made the account {found['name']!r}. Its wallet is empty.",
        f"Fill it: tollway credits grant AMOUNT --account {found['name']!r}",
    )


@accounts.command(name="list")
def list_accounts(*, common: Common = DEFAULT) -> None:
    """List accounts with their balances in credits."""
    rows(common, perform(common, "account.list"), ACCOUNTS, empty="No accounts.")


@accounts.command(name="suspend")
def suspend_account(account: AccountRef, /, *, common: Common = DEFAULT) -> None:
    """Make every key of an account answer 403 until it is resumed; calls under way finish."""
    found = perform(common, "account.suspend", account=account)
    _shown(
        common, found, f"Suspended the account {found['name']!r}.", f"tollway account resume {found['id']}"
    )


@accounts.command(name="resume")
def resume_account(account: AccountRef, /, *, common: Common = DEFAULT) -> None:
    """Let the keys of a suspended account work again."""
    found = perform(common, "account.resume", account=account)
    _shown(common, found, f"Resumed the account {found['name']!r}.", f"tollway account suspend {found['id']}")


def _shown(common: Common, found: dict[str, Any], done: str, undo: str) -> None:
    if common.format != "table":
        one(common, found, (), columns=ACCOUNTS)
    say(common, done, f"Undo: {undo}")


@admins.command(name="create")
def create_admin(
    *,
    email: Annotated[str, Parameter(help="The address to sign in with.")],
    password_stdin: Annotated[
        bool, Parameter(help="Read the password from standard input instead of asking.")
    ] = False,
    common: Common = DEFAULT,
) -> None:
    """Make an administrator. The password is asked for, never a flag; only its hash is kept."""
    password = read_password(stdin=password_stdin)
    found = perform(common, "admin.create", email=email, password=password)
    one(common, found, (("id", found["id"]), ("email", found["email"]), ("role", found["role"])))
    say(common, f"Made the administrator {found['email']}.")
