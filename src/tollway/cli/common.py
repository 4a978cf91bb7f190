"""What every command takes, and how settings are made of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Group, Parameter, Token

from tollway.cli.faults import USAGE, CommandFailed, closed, denied

if TYPE_CHECKING:
    from tollway.config import Settings

OUTPUTS = Literal["table", "json", "jsonl", "csv"]
EVERYWHERE: Final = Group("Options of every command", sort_key=99)


_flag: Final = partial(Parameter, show_default=False, negative=())


def amount_of(text: str, more: str = "") -> Decimal:
    """A decimal number as it was typed. Raises CommandFailed; `more` says what else it may be."""
    try:
        return Decimal(text)
    except ArithmeticError:
        raise CommandFailed(
            f"{text!r} is no amount", f"An amount is a decimal number, such as 12.5{more}.", code=USAGE
        ) from None


def amount_or_none(text: str) -> Decimal | None:
    """A decimal number, or "none" for None. Raises CommandFailed."""
    return None if text.lower() == "none" else amount_of(text, ", or none")


def _typed(_: Any, tokens: Sequence[Token]) -> Decimal:
    return amount_of(tokens[0].value)


decimal: Final = partial(Parameter, converter=_typed)
"""The parameter of a decimal number: the parser's own conversion cannot say what is wrong with one."""


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Common:
    """The options of every command."""

    data: Annotated[
        str | None, Parameter(metavar="DIR", help="Data folder (TOLLWAY_DATA; default: tollway-data).")
    ] = None
    database_url: Annotated[
        str | None, Parameter(metavar="URL", help="PostgreSQL instead of SQLite (TOLLWAY_DATABASE_URL).")
    ] = None
    output: Annotated[OUTPUTS, Parameter(name=["--output", "-o"], help="How to print data.")] = "table"
    json: Annotated[bool, _flag(help="Short for -o json.")] = False
    quiet: Annotated[bool, _flag(name=["--quiet", "-q"], help="Data only, no messages.")] = False
    yes: Annotated[bool, _flag(name=["--yes", "-y"], help="Do not ask before something final.")] = False
    debug: Annotated[bool, _flag(help="Show the traceback of an unexpected error.")] = False

    @property
    def format(self) -> OUTPUTS:
        """How data is printed."""
        return "json" if self.json else self.output

    def flags(self) -> dict[str, Any]:
        """The settings given as flags."""
        return {"data": self.data, "database_url": self.database_url}


DEFAULT: Final = Common()
"""The options of a command that was given none."""


def noun(name: str, help: str, examples: str) -> App:  # noqa: A002 - cyclopts' word
    """The app of a noun, whose verbs its module adds."""
    return App(
        name=name,
        help=help,
        help_prologue=f"Examples:\n{examples.strip()}".replace("\n", "\n  "),
        help_format="plaintext",
        help_formatter="plain",
        default_parameter=Parameter(negative=()),
        version_flags=[],
        result_action="return_value",
    )


def settings(common: Common, **more: Any) -> Settings:
    """The settings of this run. Raises CommandFailed on a setting that is unknown or impossible."""
    from tollway.config import BadSettings, load

    try:
        return load({**common.flags(), **more}, os.environ)
    except BadSettings as error:
        folder = common.data or os.environ.get("TOLLWAY_DATA") or "tollway-data"
        if closed(folder):
            raise denied(folder) from None
        text = str(error)
        raise CommandFailed(
            f"{text[:1].upper()}{text[1:]}", "Nothing was started or changed.", "tollway config", code=2
        ) from None
    except OSError as error:
        raise CommandFailed(
            f"{error.filename} cannot be read", f"{error.strerror}.", "--data DIR, or set TOLLWAY_DATA"
        ) from None


_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds(text: str, option: str) -> int:
    """A duration such as 90, 90s, 15m, 12h, 30d or 2w as seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip())
    if found is None:
        raise CommandFailed(
            f"{text!r} is no duration for {option}",
            "A duration is a number with s, m, h, d or w behind it.",
            f"{option} 30d",
            code=2,
        )
    return int(found[1]) * _UNITS[found[2]]


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments of an operation that were given: those that are not None or empty."""
    return {name: value for name, value in arguments.items() if value is not None and value != []}
