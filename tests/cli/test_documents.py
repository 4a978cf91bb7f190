"""docs/cli.md names every command and option, and no other."""

import re
from pathlib import Path

from tollway.cli.app import build
from tollway.cli.common import Common
from tollway.cli.tree import COMMANDS, NOUNS, overview

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def commands() -> dict[str, set[str]]:
    """Every command with the long names of its own options, as the parser knows them."""
    app = build()
    found = {}
    for command in COMMANDS:
        node = app[command.name]
        verbs = [name for name in node if not name.startswith("-")] if command.name in NOUNS else []
        for path in [[command.name, verb] for verb in verbs] or [[command.name]]:
            leaf = app
            for word in path:
                leaf = leaf[word]
            names = {
                name
                for argument in leaf.assemble_argument_collection()
                if argument.parameter.show is not False
                for name in argument.names
                if name.startswith("--") and not name.startswith(("--no-", "--empty-"))
            }
            found[" ".join(path)] = names - EVERYWHERE
    return found


EVERYWHERE = {f"--{name.replace('_', '-')}" for name in Common.__dataclass_fields__}


def documented() -> dict[str, set[str]]:
    text = PAGE.read_text(encoding="utf-8")
    parts = re.split(r"^### `tollway ([a-z ]+)`", text, flags=re.MULTILINE)
    return {
        name: set(re.findall(r"`(--[a-z-]+)", body.partition("\n## ")[0])) - EVERYWHERE
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_every_command_and_option_is_documented():
    assert documented() == commands()


def test_the_common_options_and_exit_codes_are_documented():
    text = PAGE.read_text(encoding="utf-8")
    for option in EVERYWHERE:
        assert f"`{option}" in text
        assert option in overview()
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == list("01234567")
