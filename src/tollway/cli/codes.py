"""`tollway code`: make redemption codes, list batches of them, and void those nobody has used."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Annotated, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, decimal, noun, seconds
from tollway.cli.confirm import confirm
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

app = noun(
    "code",
    "Make redemption codes, which customers turn into credits once.",
    """
tollway code create 100 --count 50 --note 'Meetup'
tollway code create 5 --credit-days 30 --expires-in 90d
tollway code list
""",
)

BATCHES: Final = (
    field("batch"),
    field("amount", right=True),
    field("codes", right=True),
    field("redeemed", right=True),
    field("voided", right=True),
    field("open", right=True),
    Column("CREATED", lambda row: when(row["created_at"])),
    Column("EXPIRES", lambda row: when(row["expires_at"])),
    field("note"),
)


@app.command
def create(
    amount: Annotated[Decimal, decimal(help="Credits of each code.")],
    /,
    *,
    count: Annotated[int | None, Parameter(help="How many codes (default: 1).")] = None,
    credit_days: Annotated[
        int | None, Parameter(help="Days until what is left of redeemed credits is taken back.")
    ] = None,
    expires_in: Annotated[str | None, Parameter(help="How long the codes can be redeemed, e.g. 90d.")] = None,
    note: Annotated[str | None, Parameter(help="What they are for; kept in the ledger.")] = None,
    common: Common = DEFAULT,
) -> None:
    """Make codes and print them, one a line. They are shown this once."""
    made = perform(
        common,
        "code.create",
        amount=amount,
        count=count,
        credit_days=credit_days,
        expires_in=None if expires_in is None else seconds(expires_in, "--expires-in"),
        note=note,
    )
    if common.format == "table":
        sys.stdout.write("".join(f"{code}\n" for code in made["codes"]))
    else:
        one(common, made, ())
    say(
        common,
        f"Made {len(made['codes'])} codes of {made['amount']} credits. They are shown this once.",
        f"Undo: tollway code void {made['batch']}",
    )


@app.command(name="list")
def list_batches(*, common: Common = DEFAULT) -> None:
    """List batches of codes, newest first."""
    rows(common, perform(common, "code.list"), BATCHES, empty="No codes. Make some: tollway code create 100")


@app.command
def void(
    batch: Annotated[str, Parameter(help="The id of the batch.")], /, *, common: Common = DEFAULT
) -> None:
    """Make the codes of a batch worthless that nobody has redeemed."""
    confirm(common, f"Void the unused codes of {batch!r} for good?", f"tollway code void {batch} --yes")
    found = perform(common, "code.void", batch=batch)
    if common.format != "table":
        one(common, found, ())
    say(common, f"Voided {found['voided']} codes.")
