"""How failures look: one line what, one line why, one line what to try, and an exit code."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cyclopts import CycloptsError

    from tollway.flows.admin.refusals import Refused

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NOT_ALLOWED: Final = 4
REFUSED: Final = 5
UPSTREAM: Final = 6
TIMEOUT: Final = 7

CODES: Final = {
    "invalid": USAGE,
    "conflict": FAILURE,
    "not_found": NOT_FOUND,
    "denied": NOT_ALLOWED,
    "refused": REFUSED,
    "upstream": UPSTREAM,
    "timeout": TIMEOUT,
    "unavailable": FAILURE,
    "failed": FAILURE,
}
"""The exit code of each kind of refusal."""


class CommandFailed(Exception):
    """A command that did nothing, with the words for its user."""

    def __init__(self, what: str, why: str = "", fix: str = "", *, code: int = FAILURE) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code


def of_refusal(refused: Refused) -> CommandFailed:
    """An operation's refusal as a failure of the command."""
    found = refused.refusal
    return CommandFailed(found.what, found.why, found.fix, code=CODES[found.kind])


def of_usage(error: CycloptsError) -> CommandFailed:
    """The parser's complaint as a failure of the command, in our words where its own are odd."""
    from cyclopts import CoercionError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

    command = " ".join(("tollway", *(error.command_chain or ())))
    what, _, why = str(error).partition(". ")
    if isinstance(error, UnknownCommandError):
        why = why.partition(" Available commands:")[0]
    elif isinstance(error, MissingArgumentError) and error.argument is not None:
        meant = re.search(r"Did you mean [^?]*\?", str(error))
        what = f"{error.keyword} wants a value" if error.keyword else f"{error.argument.name} is missing"
        why = meant[0] if meant else ""
    elif isinstance(error, CoercionError) and "unable to convert" in what:
        what, why = (
            what.partition(": unable")[0],
            f"{what.partition('convert ')[2].partition(' into')[0]} is no number.",
        )
    elif isinstance(error, UnusedCliTokensError):
        what, why = f"Unexpected: {' '.join(error.unused_tokens or ())}", "The command takes nothing more."
    return CommandFailed(what.rstrip("."), why.strip(), f"{command} --help", code=USAGE)


def closed(folder: str) -> bool:
    """Whether this user may not enter a folder, or one above it."""
    import os
    from pathlib import Path

    try:
        Path(folder).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(folder, os.X_OK)


def denied(folder: str) -> CommandFailed:
    """The failure of a command that may not look into, or write to, a data folder."""
    import os
    import pwd
    from pathlib import Path

    def named(user: int) -> str:
        try:
            return pwd.getpwuid(user).pw_name
        except KeyError:
            return str(user)

    me = named(os.getuid())
    why, fix = (
        f"This command runs as {me}.",
        "The same command as the user whom the gateway runs as, or --data ANOTHER",
    )
    try:
        owner = named(Path(folder).stat().st_uid)
    except OSError:
        pass
    else:
        if owner != me:
            why = f"It belongs to {owner}, and this command runs as {me}."
            fix = f"The same command as its owner (sudo -u {owner} tollway …), or --data ANOTHER"
    return CommandFailed(f"This user may not use the data folder {folder}", why, fix, code=NOT_ALLOWED)


def sentence(words: object) -> str:
    """An error's own words as a sentence."""
    text = " ".join(str(words).split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def report(failed: CommandFailed) -> int:
    """Write a failure to stderr; returns its exit code."""
    bold, plain = ("\x1b[1;31m", "\x1b[0m") if colours(sys.stderr.isatty()) else ("", "")
    what = failed.what.rstrip(".")
    lines = [f"{bold}Error:{plain} {what}."]
    if failed.why:
        lines.append(failed.why)
    if failed.fix:
        lines.append(f"Try: {failed.fix}")
    sys.stderr.write("\n".join(lines) + "\n")
    return failed.code


def colours(tty: bool) -> bool:
    """Whether to use colours on a stream: only on a terminal, and never against NO_COLOR."""
    import os

    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
