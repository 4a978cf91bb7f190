"""`tollway usage`: calls, tokens and credits by day, key, model and more."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common
from tollway.cli.output import Column, field, one, rows, say
from tollway.cli.session import perform

MEASURES: Final = (
    field("calls", right=True),
    field("failures", right=True),
    field("tokens_in", "TOKENS IN", right=True),
    field("tokens_cached", "CACHED", right=True),
    field("tokens_out", "TOKENS OUT", right=True),
    field("charged", right=True),
    field("refunded", right=True),
    field("absorbed", right=True),
    field("cost", right=True),
)
TIMES: Final = ("hour", "day", "month")


def usage(  # noqa: PLR0913 - the options of one command
    *,
    by: Annotated[
        str | None,
        Parameter(
            help="hour, day or month, and account, project, key, model or channel, with commas between."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        Parameter(name="--from", help="A month, day or minute, or a time ago such as 7d (default: 30 days)."),
    ] = None,
    to: Annotated[str | None, Parameter(help="The last month, day or minute (default: now).")] = None,
    tz: Annotated[str | None, Parameter(help="The time zone, such as Europe/Berlin (default: UTC).")] = None,
    account: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    project: Annotated[str | None, Parameter(help="Only of this project.")] = None,
    key: Annotated[str | None, Parameter(help="Only of this key.")] = None,
    model: Annotated[str | None, Parameter(help="Only of this model.")] = None,
    common: Common = DEFAULT,
) -> None:
    """Show calls, tokens and credits of the last 30 days by day, or as you ask: --by month,model --from 2026-01."""
    wanted = None if by is None else [word.strip() for word in by.split(",") if word.strip()]
    found = perform(
        common,
        "usage.show",
        by=wanted,
        since=from_,
        until=to,
        zone=tz,
        account=account,
        project=project,
        key=key,
        model=model,
    )
    if common.format == "json":
        one(common, found, ())
        return
    columns = (*(_column(name) for name in found["by"]), *MEASURES)
    shown: list[dict[str, Any]] = list(found["rows"])
    if common.format == "table" and shown:
        shown.append(found["total"] | {_field(found["by"][0]): "total"} if found["by"] else found["total"])
    rows(common, shown, columns, empty="Nothing was used in this time.")
    say(common, f"Amounts are credits, times are those of {found['zone']}.")


def _field(name: str) -> str:
    return "period" if name in TIMES else name


def _column(name: str) -> Column:
    return field(_field(name), name.upper())
