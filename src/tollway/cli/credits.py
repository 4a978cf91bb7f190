"""`tollway credits`: grant credits, refund calls, read balances and prove the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, amount_or_none, decimal, noun, seconds
from tollway.cli.estimate import estimate
from tollway.cli.faults import FAILURE, OK
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

app = noun(
    "credits",
    "Grant credits, read balances and prove the ledger. Amounts are credits; 1 credit is $0.001.",
    """
tollway credits grant 1000 --note 'November'
tollway credits balance
tollway credits estimate gpt-5 --input-tokens 1200 --output-tokens 350
tollway credits verify
""",
)

app.command(estimate)

Account = Annotated[str | None, Parameter(help="Whose wallet (default: main).")]
Note = Annotated[str | None, Parameter(help="Why; kept in the ledger.")]
Id = Annotated[
    str | None, Parameter(help="An id of yours: running it again with the same one changes nothing.")
]

ENTRIES: Final = (
    field("seq", right=True),
    Column("AT", lambda row: when(row["at"])),
    field("kind"),
    field("amount", right=True),
    field("call"),
    field("note"),
    field("id"),
)
INVARIANTS: Final = (
    field("name", "INVARIANT"),
    Column("RESULT", lambda row: "holds" if row["ok"] else "BROKEN"),
    field("checked", right=True),
    field("promise"),
)


@app.command
def grant(
    amount: Annotated[Decimal, decimal(help="Credits to grant.")],
    /,
    *,
    account: Account = None,
    note: Note = None,
    id: Id = None,  # noqa: A002 - the option's name
    expires_in: Annotated[
        str | None, Parameter(help="After how long what is left is taken back, e.g. 30d.")
    ] = None,
    common: Common = DEFAULT,
) -> None:
    """Put credits into a wallet."""
    found = perform(
        common,
        "credits.grant",
        amount=amount,
        account=account,
        note=note,
        id=id,
        expires_in=None if expires_in is None else seconds(expires_in, "--expires-in"),
    )
    _entered(common, "granted", found)
    say(
        common,
        f"Granted {found['amount']} credits. A grant is an entry and stays; 'tollway credits adjust' corrects it.",
    )


@app.command
def adjust(
    amount: Annotated[Decimal, decimal(help="Credits to add, or to take where it begins with a minus.")],
    /,
    *,
    note: Annotated[str, Parameter(help="Why; kept in the ledger.")],
    account: Account = None,
    id: Id = None,  # noqa: A002 - the option's name
    common: Common = DEFAULT,
) -> None:
    """Correct a balance: add credits to a wallet or take some out of it."""
    found = perform(common, "credits.adjust", amount=amount, account=account, note=note, id=id)
    _entered(common, "adjusted by", found)


def _entered(common: Common, what: str, found: dict[str, Any]) -> None:
    """Show an entry and the balance after it."""
    balance = found["balance"]
    facts = (
        (what, f"{found['amount']} credits"),
        ("account", balance["account"]),
        ("available", f"{balance['available']} credits"),
        ("entry", found["id"]),
    )
    one(common, found, facts)


@app.command
def balance(*, account: Account = None, common: Common = DEFAULT) -> None:
    """Show what a wallet has, holds and has spent."""
    found = perform(common, "credits.balance", account=account)
    one(
        common,
        found,
        (
            ("account", found["account"]),
            ("available", f"{found['available']} credits"),
            ("held", f"{found['held']} credits in {found['open_holds']} open holds"),
            ("granted", f"{found['granted']} credits"),
            ("spent", f"{found['spent']} credits"),
        ),
    )


@app.command
def ledger(
    *,
    account: Account = None,
    limit: Annotated[int | None, Parameter(help="Entries a page (default: 50).")] = None,
    before: Annotated[
        int | None, Parameter(help="The page before this entry: the SEQ of the last one.")
    ] = None,
    common: Common = DEFAULT,
) -> None:
    """List a wallet's entries, newest first."""
    found = perform(common, "credits.ledger", account=account, limit=limit, before=before)
    if common.format == "json":
        one(common, found, ())
    else:
        rows(common, found["entries"], ENTRIES, empty="No entries yet.")
    if found["has_more"]:
        say(common, f"More: tollway credits ledger --before {found['next']}")


@app.command
def refund(
    call: Annotated[str, Parameter(help="The id of the call.")],
    /,
    *,
    amount: Annotated[
        Decimal | None, decimal(help="Credits to give back (default: all it was charged).")
    ] = None,
    note: Note = None,
    id: Id = None,  # noqa: A002 - the option's name
    common: Common = DEFAULT,
) -> None:
    """Give back what a call was charged."""
    found = perform(common, "credits.refund", call=call, amount=amount, note=note, id=id)
    one(
        common,
        found,
        (
            ("refunded", f"{found['amount']} credits"),
            ("left of its charge", f"{found['left']} credits"),
            ("available", f"{found['balance']['available']} credits"),
            ("entry", found["id"]),
        ),
    )
    say(common, "A refund is an entry and stays; 'tollway credits adjust' corrects it.")


@app.command
def redeem(
    code: Annotated[str, Parameter(help="What is written on it.")],
    /,
    *,
    account: Account = None,
    common: Common = DEFAULT,
) -> None:
    """Turn a redemption code into credits."""
    found = perform(common, "credits.redeem", code=code, account=account)
    facts = (
        ("redeemed", f"{found['amount']} credits"),
        ("account", found["account"]),
        ("expire", when(found["expires_at"])),
        ("entry", found["entry"]),
    )
    one(common, found, facts)


@app.command
def overdraft(
    amount: Annotated[Decimal, decimal(help="Credits the account may owe; 0 for none.")],
    /,
    *,
    account: Account = None,
    common: Common = DEFAULT,
) -> None:
    """Let an account owe credits."""
    found = perform(common, "credits.overdraft", amount=amount, account=account)
    one(common, found, _rules(found))
    say(common, f"The account {found['account']!r} may owe {found['overdraft']} credits.")


@app.command
def alert(
    below: Annotated[str, Parameter(help="Available credits below which a balance is low, or none.")],
    /,
    *,
    account: Account = None,
    common: Common = DEFAULT,
) -> None:
    """Say in the log and in an event when a balance becomes low."""
    found = perform(common, "credits.alert", account=account, below=amount_or_none(below))
    one(common, found, _rules(found))


def _rules(found: dict[str, Any]) -> tuple[tuple[str, object], ...]:
    return (
        ("account", found["account"]),
        ("available", f"{found['available']} credits"),
        ("overdraft", f"{found['overdraft']} credits"),
        ("low below", found["low_below"]),
    )


@app.command
def verify(*, common: Common = DEFAULT) -> int:
    """Check every invariant of the ledger; exits 0 only if all of them hold."""
    found = perform(common, "credits.verify")
    if common.format == "json":
        one(common, found, ())
    else:
        rows(common, found["invariants"], INVARIANTS, empty="Nothing was checked.")
    for invariant in found["invariants"]:
        for found_out in (invariant["note"], *invariant["differences"]):
            say(common, found_out and f"{invariant['name']}: {found_out}")
    say(common, "The books balance." if found["ok"] else "The books do not balance.")
    return OK if found["ok"] else FAILURE
