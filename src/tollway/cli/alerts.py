"""`tollway alert`: what accounts were to be told about their balances, and saying that one knows."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, noun
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

app = noun(
    "alert",
    "See which balances have become low, and say that you know.",
    """
tollway credits alert 100 --account acme
tollway alert list
tollway alert ack all
""",
)

Account = Annotated[str | None, Parameter(help="Only of this account.")]
ALERTS: Final = (
    Column("AT", lambda row: when(row["at"])),
    field("account"),
    field("kind"),
    field("available", right=True),
    field("below", right=True),
    Column("ACKNOWLEDGED", lambda row: when(row["seen_at"]) if row["seen_at"] else "no"),
    field("id"),
)


@app.command(name="list")
def list_alerts(
    *,
    account: Account = None,
    seen: Annotated[bool, Parameter(name="--all", help="Also those that were acknowledged.")] = False,
    limit: Annotated[int | None, Parameter(help="Alerts a page (default: 50).")] = None,
    common: Common = DEFAULT,
) -> None:
    """List alerts that nobody has acknowledged, newest first."""
    found = perform(common, "alert.list", account=account, seen=seen or None, limit=limit)
    rows(common, found, ALERTS, empty="No alerts. Watch a balance: tollway credits alert 100")


@app.command
def ack(
    alert: Annotated[str, Parameter(help="Its id, or all.")],
    /,
    *,
    account: Account = None,
    common: Common = DEFAULT,
) -> None:
    """Say that you know of an alert, or of all; it is then no longer shown."""
    found = perform(common, "alert.ack", alert=alert, account=account)
    if common.format != "table":
        one(common, found, ())
    count = found["acknowledged"]
    say(common, f"Acknowledged {count} alert{'' if count == 1 else 's'}.")
