"""`tollway channel`: connect upstreams, test them, and switch them on and off."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.channel_options import pairs, removable, secret_of_new, timeouts, values
from tollway.cli.common import DEFAULT, Common, decimal, noun
from tollway.cli.confirm import confirm
from tollway.cli.credentials import read_secret
from tollway.cli.faults import UPSTREAM
from tollway.cli.output import Column, field, one, rows, say, text, when
from tollway.cli.session import perform

app = noun(
    "channel",
    "Connect upstreams, test them, switch them on and off.",
    """
tollway channel add --preset openai --secret-env OPENAI_API_KEY --model gpt-5
tollway channel add --preset deepseek --secret-stdin --model auto
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
PRESETS: Final = (
    field("name"),
    field("title"),
    Column("SPEAKS", lambda row: ", ".join(row["bases"])),
    Column("BASE URL", lambda row: next(iter(row["bases"].values()))),
    field("variable"),
)
LISTED: Final = (
    field("upstream_model", "UPSTREAM MODEL"),
    Column("CHAT", lambda row: "yes" if row["chat"] else "no"),
    Column("SERVED AS", lambda row: ", ".join(row["served"])),
)


Name = Annotated[str | None, Parameter(help="Its name, unique (default: the preset's).")]
Models = Annotated[
    list[str] | None,
    Parameter(
        help="A model it serves, as public=upstream, one name for both, or auto: all it lists; repeatable."
    ),
]
InputPrice = Annotated[Decimal | None, decimal(help="Credits per 10^6 input tokens of models that are new.")]
OutputPrice = Annotated[
    Decimal | None, decimal(help="Credits per 10^6 output tokens of models that are new.")
]
Groups = Annotated[
    list[str] | None, Parameter(help="A group of keys that may use it (default: default); repeatable.")
]
Options = Annotated[
    list[str] | None,
    Parameter(
        help="connect_timeout, first_byte_timeout, idle_timeout or total_timeout=SECONDS; bills_after_cancel=1; repeatable."
    ),
]
Quirks = Annotated[
    list[str] | None,
    Parameter(
        help="How it deviates from its dialect, as NAME=VALUE, the value in JSON or plain; repeatable."
    ),
]
Headers = Annotated[
    list[str] | None, Parameter(help="A header it is sent with every request, as NAME=VALUE; repeatable.")
]
Dialect = Annotated[
    str | None,
    Parameter(
        help="What it speaks: openai_chat, openai_responses, anthropic or gemini"
        " (default: the preset's, or openai_chat)."
    ),
]
Places = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        help="resource, region, location, project or api_version=VALUE, where a cloud asks for it; repeatable.",
    ),
]
SecretEnv = Annotated[str | None, Parameter(help="The variable that holds its credential.")]
SecretFile = Annotated[str | None, Parameter(help="The file that holds its credential.")]
SecretStdin = Annotated[bool, Parameter(help="Read its credential from standard input.")]


@app.command
def add(  # noqa: PLR0913 - the options of one command
    *,
    name: Name = None,
    preset: Annotated[
        str | None, Parameter(help="A provider that is known: tollway channel presets.")
    ] = None,
    base_url: Annotated[
        str | None, Parameter(help="Where its API is, usually ending in /v1 (default: the preset's).")
    ] = None,
    exact_url: Annotated[bool, Parameter(help="Take the base URL as it is written.")] = False,
    dialect: Dialect = None,
    platform: Annotated[
        str | None, Parameter(help="The cloud that serves it: azure, bedrock or vertex.")
    ] = None,
    set_: Places = None,
    secret_env: SecretEnv = None,
    secret_file: SecretFile = None,
    secret_stdin: SecretStdin = False,
    model: Models = None,
    group: Groups = None,
    priority: Annotated[int | None, Parameter(help="Lower goes first (default: 0).")] = None,
    weight: Annotated[int | None, Parameter(help="Its share among equals (default: 1).")] = None,
    input_price: InputPrice = None,
    output_price: OutputPrice = None,
    option: Options = None,
    quirk: Quirks = None,
    header: Headers = None,
    common: Common = DEFAULT,
) -> None:
    """Connect an upstream. Its credential is encrypted at once and never shown again."""
    secret, found_in = secret_of_new(preset, secret_env, secret_file, stdin=secret_stdin)
    made = perform(
        common,
        "channel.add",
        name=name,
        preset=preset,
        base_url=base_url,
        exact=exact_url or None,
        dialect=dialect,
        platform=platform,
        place=pairs(set_, "--set region=us-east-1"),
        secret=secret,
        models=model,
        groups=group,
        priority=priority,
        weight=weight,
        input_price=input_price,
        output_price=output_price,
        options=timeouts(option),
        quirks=values(quirk),
        headers=pairs(header, "--header X-Title=gateway"),
    )
    _announce(common, made, f"Added the channel {made['name']!r} ({made['id']}).")
    say(
        common,
        f"Its credential was read from {found_in}." if found_in else "",
        f"Test it: tollway channel test {made['name']!r}",
        f"Undo: tollway channel remove {made['id']}",
    )


@app.command
def serve(
    channel: ChannelRef,
    /,
    *,
    model: Annotated[
        list[str],
        Parameter(help="A model it serves from now on, as public=upstream, or auto; repeatable."),
    ],
    input_price: InputPrice = None,
    output_price: OutputPrice = None,
    quirk: Quirks = None,
    common: Common = DEFAULT,
) -> None:
    """Let a channel serve more models, or serve one under another name or with other quirks."""
    made = perform(
        common,
        "channel.serve",
        channel=channel,
        models=model,
        input_price=input_price,
        output_price=output_price,
        quirks=values(quirk),
    )
    _announce(common, made, f"The channel {made['name']!r} serves {len(made['models'])} more.")


@app.command(name="set")
def change(  # noqa: PLR0913 - the options of one command
    channel: ChannelRef,
    /,
    *,
    priority: Annotated[int | None, Parameter(help="Lower goes first.")] = None,
    weight: Annotated[int | None, Parameter(help="Its share among equals.")] = None,
    group: Annotated[
        list[str] | None, Parameter(help="The groups of keys that may use it from now on; repeatable.")
    ] = None,
    option: Options = None,
    quirk: Quirks = None,
    header: Headers = None,
    common: Common = DEFAULT,
) -> None:
    """Change a channel. NAME= with nothing behind it takes an option, a quirk or a header away."""
    found = perform(
        common,
        "channel.set",
        channel=channel,
        priority=priority,
        weight=weight,
        groups=group,
        options=timeouts(option),
        quirks=values(quirk),
        headers=removable(pairs(header, "--header X-Title=gateway")),
    )
    _shown(common, found)
    say(common, f"Changed the channel {found['name']!r}.", f"See it: tollway channel show {found['id']}")


@app.command
def rotate(
    channel: ChannelRef,
    /,
    *,
    secret_env: SecretEnv = None,
    secret_file: SecretFile = None,
    secret_stdin: SecretStdin = False,
    same_account: Annotated[
        bool,
        Parameter(help="The provider's account stays the same, so that conversations keep their thoughts."),
    ] = False,
    common: Common = DEFAULT,
) -> None:
    """Give a channel a new credential, from standard input if nothing else is said."""
    secret = read_secret(
        secret_env, secret_file, stdin=secret_stdin or (secret_env is None and secret_file is None)
    )
    found = perform(
        common, "channel.rotate", channel=channel, secret=secret, same_account=same_account or None
    )
    _shown(common, found)
    say(
        common,
        f"The channel {found['name']!r} uses a new credential ({found['secret']}).",
        f"Test it: tollway channel test {found['name']!r}",
    )


@app.command
def presets(*, common: Common = DEFAULT) -> None:
    """List the providers whose address, dialects and habits are known."""
    rows(common, perform(common, "channel.presets"), PRESETS, empty="There are none.")


@app.command
def discover(channel: ChannelRef, /, *, common: Common = DEFAULT) -> None:
    """Ask a channel's upstream which models it has."""
    found = perform(common, "channel.discover", channel=channel)
    rows(common, found, LISTED, empty="The upstream lists no models.")
    say(common, f"Serve one: tollway channel serve {channel} --model public=upstream")


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
    """Send tiny calls through a channel, whole, streamed, with a tool and counted, and say what the answers mean."""
    found = perform(common, "channel.test", channel=channel, model=model)
    if common.format in ("table", "csv"):
        rows(common, found["checks"], CHECKS, empty="Nothing was tested.")
    else:
        one(common, found, ())
    for check in found["checks"]:
        if check["finding"] != "ok":
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
