"""Reading secrets from where they are safe: the environment, a file or standard input, never a flag's value."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tollway.cli.faults import USAGE, CommandFailed


def read_secret(variable: str | None, file: str | None, *, stdin: bool) -> str | None:
    """The credential from the one source that was given, or None. Raises CommandFailed if it is empty."""
    if sum((variable is not None, file is not None, stdin)) > 1:
        raise CommandFailed(
            "More than one source of the credential was given",
            "It comes from one of --secret-env, --secret-file and --secret-stdin.",
            code=USAGE,
        )
    if variable is not None:
        return _from_environment(variable)
    if file is not None:
        return _from_file(file)
    if stdin:
        return _filled(sys.stdin.read(), "Standard input", 'printf %s "$KEY" | tollway channel add …')
    return None


def read_password(*, stdin: bool) -> str:
    """A password from standard input or, asked for twice, from the terminal. Raises CommandFailed."""
    if stdin or not sys.stdin.isatty():
        text = sys.stdin.readline().rstrip("\r\n")
        if not text:
            raise CommandFailed(
                "No password was given",
                "Standard input is empty.",
                "Run it in a terminal, or pipe the password in with --password-stdin",
                code=USAGE,
            )
        return text
    import getpass

    first = getpass.getpass("Password (at least 12 characters): ", sys.stderr)
    if getpass.getpass("Once more: ", sys.stderr) != first:
        raise CommandFailed("The two passwords differ", "Nothing was changed.", code=USAGE)
    return first


def _from_environment(variable: str) -> str:
    value = os.environ.get(variable)
    if value is None and variable.startswith(("sk-", "AIza")):
        raise CommandFailed(
            "--secret-env wants the name of a variable",
            "What was given looks like a credential; it may be in your shell's history now.",
            "export OPENAI_API_KEY=…, then --secret-env OPENAI_API_KEY",
            code=USAGE,
        )
    if value is None:
        raise CommandFailed(
            f"The variable {variable} is not set",
            "--secret-env names a variable of this command's environment.",
            f"export {variable}=…, and run it again",
            code=USAGE,
        )
    return _filled(value, f"The variable {variable}", f"export {variable}=…, and run it again")


def _from_file(file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"Cannot read {file}", f"{error}.", "--secret-file PATH", code=USAGE) from None
    return _filled(text, file, "Write the credential into it, alone")


def _filled(text: str, where: str, fix: str) -> str:
    if not text.strip():
        raise CommandFailed(f"{where} holds no credential", "It is empty.", fix, code=USAGE)
    return text.strip()
