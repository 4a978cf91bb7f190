"""`tollway model sync`, `discount` and `discounts`: public prices, and who pays less than ours."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, decimal
from tollway.cli.confirm import confirm
from tollway.cli.faults import USAGE, CommandFailed
from tollway.cli.output import Column, field, one, rows, say, text
from tollway.cli.session import perform

_WORDS: Final = {"added": "add", "changed": "change", "kept": "keep"}


def _rates(row: dict[str, Any]) -> str:
    """What becomes of a price: `input 1250 -> 1500 (+20%)`, or why nothing does."""
    parts = [_rate(change, new=row["verdict"] == "added") for change in row["rates"]]
    if row["verdict"] == "kept":
        return f"{row['why']}; the catalogue says: {', '.join(parts)}" if parts else row["why"]
    if row["facts"]:
        parts.append(f"with {' and '.join(name.replace('_', ' ') for name in row['facts'])}")
    if row["route"]:
        parts.append(f"served as {row['route']}")
    if not row["certain"]:
        parts.append("not the provider's own word")
    return ", ".join(parts)


def _rate(change: dict[str, Any], *, new: bool) -> str:
    if new:
        return f"{change['rate']} {text(change['new'])}"
    percent = "" if change["percent"] is None else f" ({change['percent']:+f}%)"
    return f"{change['rate']} {text(change['old'])} -> {text(change['new'])}{percent}"


COLUMNS: Final = (
    Column("", lambda row: _WORDS[row["verdict"]]),
    field("name", "MODEL"),
    field("provider"),
    field("kind"),
    Column("PRICE IN CREDITS", _rates),
    field("date"),
)


def sync(  # noqa: PLR0913 - the options of one command
    *,
    provider: Annotated[str | None, Parameter(help="Only this provider's models.")] = None,
    models: Annotated[
        str | None, Parameter(metavar="GLOB", help="Only models with such ids, e.g. 'gpt-5*'.")
    ] = None,
    channel: Annotated[
        str | None, Parameter(help="Let this channel serve them; the public price is what they cost us.")
    ] = None,
    markup: Annotated[
        Decimal | None, decimal(metavar="PERCENT", help="Sell for so much more than the public price.")
    ] = None,
    overwrite: Annotated[bool, Parameter(help="Also replace prices that were set by hand.")] = False,
    plan: Annotated[bool, Parameter(help="Only show what would change.")] = False,
    apply: Annotated[bool, Parameter(help="Change it without asking.")] = False,
    common: Common = DEFAULT,
) -> None:
    """Take models and prices over from the catalogue that ships with Tollway; shows what would change first.

    Without --provider and --models only models that exist already are looked at.
    """
    if plan and apply:
        raise CommandFailed("--plan and --apply exclude each other", "", "--plan", code=USAGE)
    wanted: dict[str, Any] = {
        "provider": provider,
        "models": models,
        "channel": channel,
        "markup": markup,
        "overwrite": overwrite,
    }
    found = perform(common, "model.sync", **wanted, apply=apply)
    _show(common, found)
    if plan or apply or not (found["added"] or found["changed"]):
        return
    if not (common.yes or sys.stdin.isatty()):
        say(common, "Nothing was changed. To do it: the same command with --apply")
        return
    confirm(common, "Change this?", "--apply")
    done = perform(common, "model.sync", **wanted, apply=True)
    say(common, _sum(done))


def _show(common: Common, found: dict[str, Any]) -> None:
    planned = [*found["added"], *found["changed"], *found["kept"]]
    if common.format == "json":
        one(common, found, ())
    else:
        rows(common, planned, COLUMNS, empty="Every model is as the catalogue says.")
    say(common, _sum(found))


def _sum(found: dict[str, Any]) -> str:
    did = "Done" if found["applied"] else "Plan"
    return (
        f"{did}: {len(found['added'])} added, {len(found['changed'])} changed, {len(found['kept'])} kept, "
        f"{found['unchanged']} unchanged; catalogue of {found['as_of']} ({found['built_from']})."
    )


def discount(
    percent: Annotated[Decimal, decimal(help="How much less they pay, in percent; 0 takes it away.")],
    /,
    *,
    account: Annotated[str | None, Parameter(help="Whose calls are cheaper: an account.")] = None,
    group: Annotated[str | None, Parameter(help="Whose calls are cheaper: the keys of a group.")] = None,
    common: Common = DEFAULT,
) -> None:
    """Let an account or a group of keys pay less for every model; an account's own discount goes first."""
    found = perform(common, "model.discount", percent=percent, account=account, group=group)
    if common.format != "table":
        one(common, found, ())
    option = f"--{found['scope']} {found['name']!r}"
    say(
        common,
        f"The {found['scope']} {found['name']!r} paid {text(found['old'])}% less,"
        f" and pays {text(found['new'])}% less from now on.",
        f"Undo: tollway model discount {text(found['old'])} {option}",
    )


def discounts(*, common: Common = DEFAULT) -> None:
    """List who pays less, and how much."""
    found = perform(common, "model.discounts")
    columns = (field("scope"), field("name"), field("percent", right=True))
    rows(common, found, columns, empty="Nobody pays less than the price.")
