"""The entry of the program: hands the command line what it may not import itself, the gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tollway.config import Settings


def run() -> None:
    """Run the command line and leave with its exit code."""
    from tollway.cli.app import run as run_command_line  # noqa: PLC0415 - after the interpreter is ready

    sys.exit(run_command_line(sys.argv[1:], _serve))


def _serve(settings: Settings) -> int:
    from tollway.main import serve  # noqa: PLC0415 - half a second that only this command needs

    return serve(settings)


if __name__ == "__main__":
    run()
