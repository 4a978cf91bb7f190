"""Reading the command line: finds the command, runs it, and turns every failure into words and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tollway.cli.faults import FAILURE, OK, CommandFailed, report
from tollway.cli.tree import COMMANDS, FLAG_OPTIONS, NOUNS, VALUE_OPTIONS, overview

if TYPE_CHECKING:
    from cyclopts import App

    from tollway.config import Settings

Serve = Callable[["Settings"], int]

_HELP: Final = ("--help", "-h", "help")
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141


def run(arguments: Sequence[str], serve: Serve) -> int:
    """Run a command line and return its exit code. `serve` runs the gateway until it is stopped."""
    words, named = hoisted(list(arguments))
    try:
        if words[:1] == ["help"] and len(words) > 1:
            words = [*words[1:], "--help"]
        elif not named and any(word in _HELP for word in words):
            sys.stdout.write(overview())
            return OK
        elif not named and "--version" not in words and all(word.startswith("-") for word in words[:1]):
            words = ["status", "--bare", *words]
        return _guarded(words, serve)
    except BrokenPipeError:
        # Whoever read our output has enough; nothing may be written at exit, or Python complains.
        sys.stdout = None
        return _BROKEN_PIPE


def _guarded(words: list[str], serve: Serve) -> int:
    from cyclopts import CycloptsError

    from tollway.cli import serving
    from tollway.cli.faults import of_usage

    serving.hand_in(serve)
    try:
        result = build()(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except CycloptsError as error:
        return report(of_usage(error))
    except CommandFailed as failed:
        return report(failed)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if "--debug" in words:
            raise
        return report(
            CommandFailed(
                f"Something unexpected happened: {type(error).__name__}",
                " ".join(str(error).split())[:300],
                "The same command with --debug shows the traceback",
                code=FAILURE,
            )
        )


def build() -> App:
    """The parser with every command; each noun's module is imported when it is needed."""
    from cyclopts import App, Parameter

    app = App(
        name="tollway",
        help="One key, one credit balance, every model.",
        help_format="plaintext",
        help_formatter="plain",
        default_parameter=Parameter(negative=()),
        version_flags=["--version"],
        version=_version,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for command in COMMANDS:
        app.command(command.target, name=command.name, help=command.help)
    return app


def hoisted(words: list[str]) -> tuple[list[str], bool]:
    """The same words with the common options moved behind the command, and whether a command is named."""
    command: list[str] = []
    moved: list[str] = []
    rest = list(words)
    while rest:
        word = rest[0]
        if word in VALUE_OPTIONS and len(rest) > 1:
            moved += [rest.pop(0), rest.pop(0)]
        elif word in FLAG_OPTIONS or word.partition("=")[0] in VALUE_OPTIONS:
            moved.append(rest.pop(0))
        elif not word.startswith("-") and (not command or (len(command) == 1 and command[0] in NOUNS)):
            command.append(rest.pop(0))
        else:
            break
    return [*command, *moved, *rest], bool(command) and command != ["help"]


def _version() -> str:
    from tollway import __version__

    return f"tollway {__version__}"
