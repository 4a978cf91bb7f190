"""`tollway key`: make, list, show, limit, rotate, disable, enable and revoke API keys."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, amount_or_none, decimal, given, noun, seconds
from tollway.cli.confirm import confirm
from tollway.cli.faults import OK, REFUSED, USAGE, CommandFailed
from tollway.cli.output import Column, field, one, rows, say, secret, when
from tollway.cli.session import ask, perform

Period = Literal["total", "daily", "weekly", "monthly"]
KeyRef = Annotated[str, Parameter(help="Its id or name.")]
InAccount = Annotated[str | None, Parameter(help="Its account, where several have a key of that name.")]

app = noun(
    "key",
    "Make and manage API keys.",
    """
tollway key create --name ci
tollway key create --name demo --model 'sandbox-*' --rpm 60 --budget 50 --budget-period monthly
tollway key rotate ci --overlap 1h
""",
)


def _limits(row: dict[str, Any]) -> str:
    words = [
        f"{row[name]} {unit}"
        for name, unit in (("rpm", "requests/min"), ("tpm", "tokens/min"), ("concurrency", "at once"))
        if row[name] is not None
    ]
    if row["budget"] is not None:
        words.append(f"{row['budget']} credits {row['budget_period']}")
    return ", ".join(words)


CHECKS: Final = (field("check"), field("verdict"), field("code"), field("detail"))
COLUMNS: Final = (
    field("id"),
    field("name"),
    field("display", "KEY"),
    field("status"),
    field("project"),
    Column("LIMITS", _limits),
    Column("EXPIRES", lambda row: when(row["expires_at"])),
    Column("CREATED", lambda row: when(row["created_at"])),
)


@app.command
def create(  # noqa: PLR0913 - the options of one command
    name: Annotated[str, Parameter(help="Its name, unique within the account.")],
    *,
    project: Annotated[str | None, Parameter(help="Its project (default: default).")] = None,
    account: Annotated[str | None, Parameter(help="Who pays (default: main).")] = None,
    model: Annotated[
        list[str] | None,
        Parameter(name=["--model", "--allow-model"], help="A model it may call, or a pattern; repeatable."),
    ] = None,
    ip: Annotated[
        list[str] | None,
        Parameter(name=["--ip", "--allow-ip"], help="A network it may call from; repeatable."),
    ] = None,
    group: Annotated[str | None, Parameter(help="The group of channels it uses (default: default).")] = None,
    rpm: Annotated[int | None, Parameter(help="Requests per minute.")] = None,
    tpm: Annotated[int | None, Parameter(help="Tokens per minute.")] = None,
    concurrency: Annotated[int | None, Parameter(help="Calls at the same time.")] = None,
    budget: Annotated[Decimal | None, decimal(help="Credits it may spend.")] = None,
    budget_period: Annotated[
        Period | None, Parameter(help="When its budget starts anew (default: never).")
    ] = None,
    expires_in: Annotated[str | None, Parameter(help="How long it works, e.g. 30d.")] = None,
    tag: Annotated[list[str] | None, Parameter(help="A tag; repeatable.")] = None,
    common: Common = DEFAULT,
) -> None:
    """Make a key. Its secret is printed this once."""
    made = perform(
        common,
        "key.create",
        name=name,
        project=project,
        account=account,
        models=model,
        networks=ip,
        group=group,
        rpm=rpm,
        tpm=tpm,
        concurrency=concurrency,
        budget=budget,
        budget_period=budget_period,
        expires_in=None if expires_in is None else seconds(expires_in, "--expires-in"),
        tags=tag,
    )
    secret(common, made)
    say(
        common,
        f"Made the key {made['name']!r} ({made['id']}) in project {made['project']!r}. It is shown this once.",
        f"Undo: tollway key revoke {made['id']}",
    )


@app.command(name="list")
def list_keys(
    *,
    project: Annotated[str | None, Parameter(help="Only of this project.")] = None,
    account: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    revoked: Annotated[bool, Parameter(name="--all", help="Also the revoked ones.")] = False,
    common: Common = DEFAULT,
) -> None:
    """List keys, oldest first."""
    found = perform(common, "key.list", project=project, account=account, revoked=revoked)
    rows(common, found, COLUMNS, empty="No keys. Make one: tollway key create --name NAME")


@app.command
def show(key: KeyRef, /, *, account: InAccount = None, common: Common = DEFAULT) -> None:
    """Show a key with what it has been used for."""
    found = perform(common, "key.show", key=key, account=account)
    details = found["details"]
    facts: list[tuple[str, object]] = [
        ("id", details["id"]),
        ("name", details["name"]),
        ("key", details["display"]),
        ("status", details["status"]),
        ("project", details["project"]),
        ("group", details["group"]),
        ("models", details["models"] or "all"),
        ("networks", details["networks"] or "all"),
        ("limits", _limits(details)),
        ("expires", when(details["expires_at"])),
        ("created", when(details["created_at"])),
        ("replaces", details["replaces"]),
        ("tags", details["tags"]),
        ("calls", found["calls"]),
        ("spent", f"{found['spent']} credits"),
        *(
            (f"spent {words}", f"{found['usage'][name]} credits")
            for words, name in (
                ("today", "spent_today"),
                ("this week", "spent_this_week"),
                ("this month", "spent_this_month"),
            )
        ),
        ("last used", when(found["last_used_at"])),
    ]
    for whose, budget in (("budget", found["budget"]), ("project budget", found["project_budget"])):
        if budget is not None:
            facts.append((whose, _budget(budget)))
    for whose, caps in (("cap", found["caps"]), ("own cap", found["own_caps"])):
        facts += [(f"{whose} {model}", f"{amount} credits a call") for model, amount in caps.items()]
    one(common, found, facts)


def _budget(found: dict[str, Any]) -> str:
    """A budget in its current period, in words."""
    held = f", {found['held']} held" if found["held"] else ""
    resets = f"; starts anew {when(found['resets_at'])}" if found["resets_at"] else ""
    return f"{found['remaining']} of {found['limit']} credits left ({found['used']} used{held}){resets}"


@app.command(name="test")
def try_out(
    key: KeyRef,
    /,
    *,
    model: Annotated[str | None, Parameter(help="A model it is to call.")] = None,
    ip: Annotated[str | None, Parameter(help="The address it is to call from.")] = None,
    account: InAccount = None,
    common: Common = DEFAULT,
) -> int:
    """Check what the gateway checks of each call; exits 5 if one would be refused."""
    found = perform(common, "key.test", key=key, model=model, ip=ip, account=account)
    if common.format in ("table", "csv"):
        rows(common, found["checks"], CHECKS, empty="")
    else:
        one(common, found, ())
    say(common, f"A call with {found['name']!r} would be {'let through' if found['ok'] else 'refused'}.")
    return OK if found["ok"] else REFUSED


@app.command
def rotate(
    key: KeyRef,
    /,
    *,
    overlap: Annotated[str, Parameter(help="How long the old key still works, e.g. 1h.")] = "0s",
    account: InAccount = None,
    common: Common = DEFAULT,
) -> None:
    """Replace a key by a new one with the same name and limits."""
    made = perform(common, "key.rotate", key=key, account=account, overlap=seconds(overlap, "--overlap"))
    secret(common, made)
    old = made["replaces"]
    say(
        common,
        f"Made a new key {made['name']!r} ({made['id']}). It is shown this once.",
        f"The old one ({old['id']}) works until {when(old['expires_at'])}."
        if old["status"] == "active"
        else f"The old one ({old['id']}) works no more.",
    )


@app.command
def limit(  # noqa: PLR0913 - the options of one command
    key: KeyRef,
    /,
    *,
    rpm: Annotated[str | None, Parameter(help="Requests per minute, or none.")] = None,
    tpm: Annotated[str | None, Parameter(help="Tokens per minute, or none.")] = None,
    concurrency: Annotated[str | None, Parameter(help="Calls at the same time, or none.")] = None,
    budget: Annotated[str | None, Parameter(help="Credits it may spend, or none.")] = None,
    account: InAccount = None,
    common: Common = DEFAULT,
) -> None:
    """Change a key's limits; "none" takes one away."""
    wanted = {"rpm": rpm, "tpm": tpm, "concurrency": concurrency, "budget": budget}
    limits = {name: _limit(name, value) for name, value in wanted.items() if value is not None}
    found = ask(common, "key.limit", {**given(key=key, account=account), **limits})
    _shown(common, found, f"Limits of {found['name']!r} are now: {_limits(found)}", "")


@app.command
def cap(
    key: KeyRef,
    model: Annotated[str, Parameter(help="The model, or * for every model without a cap of its own.")],
    amount: Annotated[str, Parameter(help="Credits one call may cost at most, or none.")],
    /,
    *,
    own: Annotated[bool, Parameter(help="The cap that the key's holder set, instead of yours.")] = False,
    account: InAccount = None,
    common: Common = DEFAULT,
) -> None:
    """Limit what one call may cost; dearer calls are refused."""
    wanted = amount_or_none(amount)
    found = perform(common, "key.cap", key=key, model=model, amount=wanted, account=account, own=own or None)
    if common.format != "table":
        one(common, found, ())
    for whose, caps in (("Caps", found["caps"]), ("Caps its holder set", found["own_caps"])):
        words = ", ".join(f"{name} {credits_} credits" for name, credits_ in caps.items())
        say(
            common,
            f"{whose} of {found['name']!r} are now: {words or 'none'}" if caps or whose == "Caps" else "",
        )


@app.command
def disable(key: KeyRef, /, *, account: InAccount = None, common: Common = DEFAULT) -> None:
    """Make a key answer 403 until it is enabled again."""
    found = perform(common, "key.disable", key=key, account=account)
    _shown(common, found, f"Disabled the key {found['name']!r}.", f"tollway key enable {found['id']}")


@app.command
def enable(key: KeyRef, /, *, account: InAccount = None, common: Common = DEFAULT) -> None:
    """Let a disabled key work again."""
    found = perform(common, "key.enable", key=key, account=account)
    _shown(common, found, f"Enabled the key {found['name']!r}.", f"tollway key disable {found['id']}")


@app.command
def revoke(key: KeyRef, /, *, account: InAccount = None, common: Common = DEFAULT) -> None:
    """End a key for good."""
    confirm(common, f"Revoke the key {key!r} for good?", f"tollway key revoke {key} --yes")
    found = perform(common, "key.revoke", key=key, account=account)
    _shown(common, found, f"Revoked the key {found['name']!r}. That is final.", "")


def _shown(common: Common, found: dict[str, Any], done: str, undo: str) -> None:
    if common.format != "table":
        one(common, found, (), columns=COLUMNS)
    say(common, done, f"Undo: {undo}" if undo else "")


def _limit(name: str, value: str) -> object:
    if name == "budget":
        return amount_or_none(value)
    if value.lower() == "none":
        return None
    try:
        return int(value)
    except ValueError:
        raise CommandFailed(
            f"{value!r} is no limit", f"--{name} takes a whole number or none.", f"--{name} 60", code=USAGE
        ) from None
