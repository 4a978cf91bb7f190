"""Asking before something final is done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tollway.cli.faults import USAGE, CommandFailed

if TYPE_CHECKING:
    from tollway.cli.common import Common


def confirm(common: Common, question: str, command: str) -> None:
    """Ask on the terminal; without one, insist on --yes. Raises CommandFailed unless confirmed."""
    if common.yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(
            "This cannot be undone, and nobody can be asked", "There is no terminal.", command, code=USAGE
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed("Nothing was changed", "It was not confirmed.")
