"""The commands by name, where each lives and what it is for: the one list help, parsing and docs share."""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """A command or noun. `target`: import path of the function or app; `help`: its line in the overview."""

    name: str
    target: str
    help: str


COMMANDS: Final = (
    Command("serve", "tollway.cli.serve:serve", "Start the gateway"),
    Command("key", "tollway.cli.keys:app", "Make, limit, rotate and revoke API keys"),
    Command("channel", "tollway.cli.channels:app", "Connect upstreams, test them, switch them on and off"),
    Command("model", "tollway.cli.models:app", "Name, price and alias public models"),
    Command("credits", "tollway.cli.credits:app", "Grant credits, read balances, prove the ledger"),
    Command("usage", "tollway.cli.usage:usage", "Show calls, tokens and credits by day, key, model and more"),
    Command("logs", "tollway.cli.logs:logs", "List calls, newest first, or follow them"),
    Command("explain", "tollway.cli.explain:explain", "Say what a call cost, and why"),
    Command("job", "tollway.cli.jobs:app", "See what is done in the background, and do it now"),
    Command("alert", "tollway.cli.alerts:app", "See low balances, and say that you know"),
    Command("code", "tollway.cli.codes:app", "Make redemption codes"),
    Command("project", "tollway.cli.people:projects", "Make and list projects"),
    Command("account", "tollway.cli.people:accounts", "Make and list accounts"),
    Command("admin", "tollway.cli.people:admins", "Make administrators"),
    Command("status", "tollway.cli.status:status", "Say whether a gateway runs, and its state in numbers"),
    Command("doctor", "tollway.cli.doctor:doctor", "Check everything and say how to fix what is wrong"),
    Command("config", "tollway.cli.settings:config", "Print every setting with its source"),
    Command("sandbox", "tollway.cli.serve:sandbox", "Run the sandbox provider alone, for tests"),
    Command("version", "tollway.cli.status:version", "Print the version"),
)

NOUNS: Final = frozenset(
    {"key", "channel", "model", "credits", "alert", "code", "job", "project", "account", "admin"}
)
"""The commands that are followed by a verb."""

VALUE_OPTIONS: Final = frozenset({"--data", "--database-url", "-o", "--output"})
FLAG_OPTIONS: Final = frozenset({"--json", "-q", "--quiet", "-y", "--yes", "--debug"})
"""The options of every command: those with a value, and flags."""

_TOP: Final = """\
Examples:
  tollway serve                                   start a gateway that answers at once
  tollway key create --name ci                    make an API key
  OPENAI=sk-... tollway channel add --name openai \\
      --base-url https://api.openai.com/v1 --secret-env OPENAI --model gpt-5

Usage: tollway COMMAND [OPTIONS]

One key, one credit balance, every model.

Commands:
{commands}

Options of every command:
  --data DIR              data folder (TOLLWAY_DATA; default: tollway-data)
  --database-url URL      PostgreSQL instead of SQLite in the data folder (TOLLWAY_DATABASE_URL)
  -o, --output FORMAT     table, json, jsonl or csv; --json is short for -o json
  -q, --quiet             data only, no messages
  -y, --yes               do not ask before something final
  --debug                 show the traceback of an unexpected error
  -h, --help              this, or a command's own help

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 not allowed, 5 refused, 6 upstream, 7 timeout
"""

START: Final = """\
No gateway runs on this data folder. To start:
  tollway serve               a gateway with a sandbox provider, a key and opening credits
  tollway channel add --help  connect a real upstream
  tollway doctor              check what is there
  tollway --help              everything else
"""


def overview() -> str:
    """The text of `tollway --help`, made without loading the parser."""
    width = max(len(command.name) for command in COMMANDS) + 2
    lines = [f"  {command.name:{width}}{command.help}" for command in COMMANDS]
    return _TOP.format(commands="\n".join(lines))
