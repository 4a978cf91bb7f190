"""`tollway logs`: the calls that were made, newest first, and following those that end."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

CALLS: Final = (
    Column("AT", lambda row: when(row["at"])),
    field("status", right=True),
    field("outcome"),
    field("model"),
    field("key"),
    Column("MS", lambda row: row["total_ms"], right=True),
    field("charged", right=True),
    field("error"),
    field("id"),
)
FOLLOWED: Final = 100
PAUSE_S: Final = 1.0


def logs(  # noqa: PLR0913 - the options of one command
    *,
    account: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    key: Annotated[str | None, Parameter(help="Only of this key.")] = None,
    model: Annotated[str | None, Parameter(help="Only of this model.")] = None,
    outcome: Annotated[str | None, Parameter(help="Only ok, partial, cancelled or failed ones.")] = None,
    limit: Annotated[int | None, Parameter(help="Calls a page (default: 20).")] = None,
    before: Annotated[str | None, Parameter(help="The page before this call.")] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with calls as they end.")] = False,
    common: Common = DEFAULT,
) -> None:
    """List the calls that ended, newest first; calls refused before they were sent leave no record."""
    wanted = {"account": account, "key": key, "model": model, "outcome": outcome}
    found = perform(common, "call.list", **wanted, limit=limit, before=before)
    if common.format == "json" and not follow:
        one(common, found, ())
        return
    shown = found["calls"]
    rows(common, shown[::-1] if follow else shown, CALLS, empty="No calls yet.")
    if follow:
        _follow(common, wanted, {call["id"] for call in shown})
    elif found["has_more"]:
        say(common, f"More: tollway logs --before {found['next']}", "One of them: tollway explain ID")


def _follow(common: Common, wanted: dict[str, Any], seen: set[str]) -> None:
    """Print calls that are new, until the user stops it."""
    while True:
        time.sleep(PAUSE_S)
        calls = perform(common, "call.list", **wanted, limit=FOLLOWED)["calls"]
        new = [call for call in calls if call["id"] not in seen]
        seen = {call["id"] for call in calls} | (seen if len(seen) < 10 * FOLLOWED else set())
        if new:
            rows(common, new[::-1], CALLS, empty="")
