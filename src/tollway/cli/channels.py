"""`tollway channel`: connect upstreams, test them, and switch them on and off."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, noun
from tollway.cli.confirm import confirm
from tollway.cli.credentials import read_secret
from tollway.cli.faults import UPSTREAM, USAGE, CommandFailed
from tollway.cli.output import Column, field, one, rows, say, text, when
from tollway.cli.session import perform

app = noun(
    "channel",
    "Connect upstreams, test them, switch them on and off.",
    """
tollway channel add --name openai --base-url https://api.openai.com/v1 --secret-env OPENAI_API_KEY --model gpt-5
tollway channel add --name local --base-url http://127.0.0.1:11434/v1 --model llama=llama3.2:3b
tollway channel test openai
""",
)

ChannelRef = Annotated[str, Parameter(help="Its id or name.")]


def _models(row: dict[str, Any]) -> str:
    names = [public if public == up else f"{public}={up}" for public, up in row["models"].items()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


COLUMNS: Final = (
    field("id"),
    field("name"),
    field("status"),
    field("dialect"),
    field("base_url", "BASE URL"),
    field("secret"),
    field("priority", right=True),
    field("weight", right=True),
    field("groups"),
    Column("MODELS", _models),
)
CHECKS: Final = (
    field("model"),
    field("capability"),
    Column("RESULT", lambda row: "ok" if row["finding"] == "ok" else row["finding"].replace("_", " ")),
    Column("STATUS", lambda row: row["status"] or "-", right=True),
    Column("MS", lambda row: row["latency_ms"], right=True),
    field("meaning"),
)


@app.command
def add(  # noqa: PLR0913 - the options of one command
    *,
    name: Annotated[str, Parameter(help="Its name, unique.")],
    base_url: Annotated[str, Parameter(help="Where its API is, usually ending in /v1.")],
    dialect: Annotated[str, Parameter(help="What it speaks.")] = "openai_chat",
    secret_env: Annotated[str | None, Parameter(help="The variable that holds its credential.")] = None,
    secret_file: Annotated[str | None, Parameter(help="The file that holds its credential.")] = None,
    secret_stdin: Annotated[bool, Parameter(help="Read its credential from standard input.")] = False,
    model: Annotated[
        list[str] | None,
        Parameter(help="A model it serves, as public=upstream, or one name for both; repeatable."),
    ] = None,
    group: Annotated[
        list[str] | None, Parameter(help="A group of keys that may use it (default: default); repeatable.")
    ] = None,
    priority: Annotated[int | None, Parameter(help="Lower goes first (default: 0).")] = None,
    weight: Annotated[int | None, Parameter(help="Its share among equals (default: 1).")] = None,
    input_price: Annotated[
        Decimal | None, Parameter(help="Credits per 10^6 input tokens of models that are new.")
    ] = None,
    output_price: Annotated[
        Decimal | None, Parameter(help="Credits per 10^6 output tokens of models that are new.")
    ] = None,
    option: Annotated[
        list[str] | None,
        Parameter(
            help="connect_timeout, first_byte_timeout, idle_timeout or total_timeout=SECONDS; repeatable."
        ),
    ] = None,
    common: Common = DEFAULT,
) -> None:
    """Connect an upstream. Its credential is encrypted at once and never shown again."""
    made = perform(
        common,
        "channel.add",
        name=name,
        base_url=base_url,
        dialect=dialect,
        secret=read_secret(secret_env, secret_file, stdin=secret_stdin),
        models=model,
        groups=group,
        priority=priority,
        weight=weight,
        input_price=input_price,
        output_price=output_price,
        options=_options(option),
    )
    _announce(common, made, f"Added the channel {made['name']!r} ({made['id']}).")
    say(
        common,
        f"Test it: tollway channel test {made['name']!r}",
        f"Undo: tollway channel remove {made['id']}",
    )


@app.command
def serve(
    channel: ChannelRef,
    /,
    *,
    model: Annotated[
        list[str], Parameter(help="A model it serves from now on, as public=upstream; repeatable.")
    ],
    input_price: Annotated[
        Decimal | None, Parameter(help="Credits per 10^6 input tokens of models that are new.")
    ] = None,
    output_price: Annotated[
        Decimal | None, Parameter(help="Credits per 10^6 output tokens of models that are new.")
    ] = None,
    common: Common = DEFAULT,
) -> None:
    """Let a channel serve more models, or serve one under another name."""
    made = perform(
        common,
        "channel.serve",
        channel=channel,
        models=model,
        input_price=input_price,
        output_price=output_price,
    )
    _announce(common, made, f"The channel {made['name']!r} serves {len(made['models'])} more.")


@app.command(name="list")
def list_channels(*, common: Common = DEFAULT) -> None:
    """List channels, first the ones that are tried first."""
    found = perform(common, "channel.list")
    rows(common, found, COLUMNS, empty="No channels. Add one: tollway channel add --help")


@app.command
def show(channel: ChannelRef, /, *, common: Common = DEFAULT) -> None:
    """Show a channel with the models it serves."""
    found = perform(common, "channel.show", channel=channel)
    facts: list[tuple[str, object]] = [
        (name.replace("_", " "), found[name])
        for name in ("id", "name", "status", "dialect", "base_url", "secret", "groups", "priority", "weight")
    ]
    facts += [("options", found["options"]), ("created", when(found["created_at"]))]
    facts += [(f"model {public}", f"upstream: {upstream}") for public, upstream in found["models"].items()]
    one(common, found, facts, columns=COLUMNS)


@app.command(name="test")
def try_out(
    channel: ChannelRef,
    /,
    *,
    model: Annotated[str | None, Parameter(help="Only this model (default: the first few).")] = None,
    common: Common = DEFAULT,
) -> int:
    """Send a tiny chat through a channel, whole and streamed, and say what the answer means."""
    found = perform(common, "channel.test", channel=channel, model=model)
    if common.format in ("table", "csv"):
        rows(common, found["checks"], CHECKS, empty="Nothing was tested.")
    else:
        one(common, found, ())
    for check in found["checks"]:
        if check["finding"] != "ok" and not found["ok"]:
            say(
                common,
                f"{check['model']} ({check['capability']}): {check['meaning']}.",
                f"  It said: {text(check['detail'])}" if check["detail"] else "",
                f"  Try: {check['advice']}" if check["advice"] else "",
            )
    say(common, f"The channel {found['channel']!r} {'works' if found['ok'] else 'does not work'}.")
    return 0 if found["ok"] else UPSTREAM


@app.command
def enable(channel: ChannelRef, /, *, common: Common = DEFAULT) -> None:
    """Let calls go through a channel."""
    found = perform(common, "channel.enable", channel=channel)
    _shown(common, found)
    say(common, f"Enabled the channel {found['name']!r}.", f"Undo: tollway channel disable {found['id']}")


@app.command
def disable(channel: ChannelRef, /, *, common: Common = DEFAULT) -> None:
    """Let no new call go through a channel; calls under way finish."""
    found = perform(common, "channel.disable", channel=channel)
    _shown(common, found)
    say(common, f"Disabled the channel {found['name']!r}.", f"Undo: tollway channel enable {found['id']}")


@app.command
def remove(channel: ChannelRef, /, *, common: Common = DEFAULT) -> None:
    """Delete a channel with its credential; its calls stay on record."""
    confirm(
        common,
        f"Delete the channel {channel!r} and its credential?",
        f"tollway channel remove {channel} --yes",
    )
    found = perform(common, "channel.remove", channel=channel)
    if common.format != "table":
        one(common, found, ())
    unserved = ", ".join(found["unserved"])
    say(
        common,
        f"Removed the channel {found['name']!r}. Its credential is gone.",
        f"No channel serves these any more: {unserved}" if unserved else "",
    )


def _announce(common: Common, made: dict[str, Any], done: str) -> None:
    if common.format == "table":
        shown = [
            {
                "model": served["name"],
                "upstream": served["upstream_model"],
                "price": served["price"]["rates"] if served["price"] else None,
                "note": "provisional price" if _provisional(served) else "",
            }
            for served in made["models"]
        ]
        columns = (field("model"), field("upstream"), field("price", "CREDITS PER 10^6"), field("note"))
        rows(common, shown, columns, empty="It serves no model yet: tollway channel serve --help")
    else:
        one(common, made, (), columns=(field("id"), field("name")))
    say(common, done, *(f"Note: {hint}." for hint in made["hints"]))
    for served in made["models"]:
        if _provisional(served):
            rates = served["price"]["rates"]
            say(
                common,
                f"The price of {served['name']} is provisional: {rates['input']} credits per 10^6 input tokens,"
                f" {rates['output']} per 10^6 output tokens.",
                f"  Set it: tollway model price {served['name']} --input-price N --output-price N",
            )


def _provisional(served: dict[str, Any]) -> bool:
    return bool(served["price"] and served["price"]["provisional"])


def _shown(common: Common, found: dict[str, Any]) -> None:
    if common.format != "table":
        one(common, found, (), columns=COLUMNS)


def _options(given: list[str] | None) -> dict[str, float] | None:
    found = {}
    for pair in given or ():
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise CommandFailed(
                f"{pair!r} is no option",
                "An option is NAME=SECONDS.",
                "--option first_byte_timeout=30",
                code=USAGE,
            ) from None
    return found or None
