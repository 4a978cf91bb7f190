"""How `tollway channel` reads its options: pairs, timeouts, quirks, and where a credential is."""

from __future__ import annotations

import os
from typing import Any

from tollway.cli.credentials import read_secret
from tollway.cli.faults import USAGE, CommandFailed
from tollway.core.json import decode


def pairs(given: list[str] | None, example: str) -> dict[str, str] | None:
    """NAME=VALUE by name; None where nothing was given. Raises CommandFailed."""
    found: dict[str, str] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise CommandFailed(f"{one!r} is no pair", "It is NAME=VALUE.", example, code=USAGE)
        found[name] = value
    return found or None


def removable(given: dict[str, str] | None) -> dict[str, str | None] | None:
    """Pairs in which nothing behind the = takes something away."""
    return None if given is None else {name: value or None for name, value in given.items()}


def timeouts(given: list[str] | None) -> dict[str, float | None] | None:
    """NAME=SECONDS by name. Raises CommandFailed."""
    found: dict[str, float | None] = {}
    for name, value in (pairs(given, "--option first_byte_timeout=30") or {}).items():
        try:
            found[name] = float(value) if value else None
        except ValueError:
            raise CommandFailed(
                f"{name}={value!r} is no option",
                "An option is NAME=SECONDS.",
                "--option first_byte_timeout=30",
                code=USAGE,
            ) from None
    return found or None


def values(given: list[str] | None) -> dict[str, Any] | None:
    """NAME=VALUE by name, values in JSON, or as text where they are none."""
    found: dict[str, Any] = {}
    for name, value in (pairs(given, "--quirk json_schema=false") or {}).items():
        try:
            found[name] = decode(value) if value else None
        except ValueError:
            found[name] = value
    return found or None


def secret_of_new(
    preset: str | None, variable: str | None, file: str | None, *, stdin: bool
) -> tuple[str | None, str]:
    """The credential of a new channel, and the variable it was found in where nobody named one.

    Where no source was given, a preset's own variable is looked into. Raises CommandFailed.
    """
    if preset and variable is None and file is None and not stdin:
        from tollway.upstream.presets import PRESETS

        known = PRESETS.get(preset)
        if known is not None and known.variable and os.environ.get(known.variable, "").strip():
            return read_secret(known.variable, None, stdin=False), known.variable
    return read_secret(variable, file, stdin=stdin), ""
