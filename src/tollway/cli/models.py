"""`tollway model`: name, price and alias public models."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli import model_sync
from tollway.cli.common import DEFAULT, Common, decimal, noun
from tollway.cli.faults import USAGE, CommandFailed
from tollway.cli.output import Column, field, one, rows, say, text, when
from tollway.cli.session import perform

app = noun(
    "model",
    "Name, price and alias public models. Prices are credits per 10^6 tokens or characters, or per single unit; "
    "1 credit is $0.001.",
    """
tollway model list
tollway model sync --provider openai --models 'gpt-5*' --markup 20 --plan
tollway model price gpt-5 --input-price 1250 --output-price 10000
tollway model alias fast gpt-5-mini
""",
)

app.command(model_sync.sync)
app.command(model_sync.discount)
app.command(model_sync.discounts)

ModelRef = Annotated[str, Parameter(help="Its name or an alias.")]
InputPrice = Annotated[Decimal | None, decimal(help="Credits per 10^6 input tokens.")]
OutputPrice = Annotated[Decimal | None, decimal(help="Credits per 10^6 output tokens.")]
OtherRates = Annotated[
    list[str] | None,
    Parameter(
        help="RATE=CREDITS, e.g. cache_read=125, input@200k=2500, image:1024x1024:high=167; repeatable."
    ),
]


def _price(row: dict[str, Any]) -> str:
    if row["price"] is None:
        return "none"
    mark = " (provisional)" if row["price"]["provisional"] else ""
    return text(row["price"]["rates"]) + mark


COLUMNS: Final = (
    field("name"),
    field("kind"),
    field("status"),
    field("callable"),
    Column("PRICE IN CREDITS", _price),
    Column("CHANNELS", lambda row: [route["channel"] for route in row["channels"]]),
    field("aliases"),
)


@app.command
def add(  # noqa: PLR0913 - the options of one command
    model: Annotated[str, Parameter(help="Its public name.")],
    /,
    *,
    input_price: InputPrice = None,
    output_price: OutputPrice = None,
    rate: OtherRates = None,
    kind: Annotated[str | None, Parameter(help="What it produces (default: chat).")] = None,
    provider: Annotated[str | None, Parameter(help="Who makes it; shown only.")] = None,
    description: Annotated[str | None, Parameter(help="A sentence about it; shown only.")] = None,
    context_window: Annotated[int | None, Parameter(help="Tokens it can read and write together.")] = None,
    output_max: Annotated[int | None, Parameter(help="Tokens it can write.")] = None,
    capability: Annotated[list[str] | None, Parameter(help="Something it can do; repeatable.")] = None,
    common: Common = DEFAULT,
) -> None:
    """Add a model with its price. A channel serves it after: tollway channel serve."""
    found = perform(
        common,
        "model.add",
        name=model,
        prices=_prices(input_price, output_price, rate),
        kind=kind,
        provider=provider,
        description=description,
        context_window=context_window,
        output_max=output_max,
        capabilities=capability,
    )
    _shown(common, found)
    say(
        common,
        f"Added the model {found['name']!r} at {_price(found)} credits.",
        f"Serve it: tollway channel serve CHANNEL --model {found['name']}",
        f"Undo: tollway model disable {found['name']}",
    )


@app.command
def price(
    model: ModelRef,
    /,
    *,
    input_price: InputPrice = None,
    output_price: OutputPrice = None,
    rate: OtherRates = None,
    common: Common = DEFAULT,
) -> None:
    """Give a model a new price; calls under way keep the one they began with."""
    prices = _prices(input_price, output_price, rate)
    found = perform(common, "model.price", name=model, prices=prices)
    if common.format != "table":
        one(common, found, ())
    old = found["old"]
    undo = (
        ""
        if old is None
        else " ".join(f"--rate {meter}={text(value)}" for meter, value in old["rates"].items())
    )
    say(
        common,
        f"The price of {found['name']!r} was {text(old['rates']) if old else 'none'},"
        f" and is {text(found['new']['rates'])} credits.",
        f"Undo: tollway model price {found['name']} {undo}" if undo else "",
    )


@app.command
def alias(
    alias: Annotated[str, Parameter(help="The new name.")],
    model: ModelRef,
    /,
    *,
    common: Common = DEFAULT,
) -> None:
    """Give a model another name."""
    found = perform(common, "model.alias", alias=alias, name=model)
    if common.format != "table":
        one(common, found, ())
    say(
        common,
        f"{found['alias']!r} now stands for the model {found['name']!r}.",
        f"Undo: tollway model unalias {found['alias']}",
    )


@app.command
def unalias(
    alias: Annotated[str, Parameter(help="The name to take away.")], /, *, common: Common = DEFAULT
) -> None:
    """Take an alias away."""
    found = perform(common, "model.unalias", alias=alias)
    if common.format != "table":
        one(common, found, ())
    say(
        common,
        f"{found['alias']!r} no longer stands for the model {found['name']!r}.",
        f"Undo: tollway model alias {found['alias']} {found['name']}",
    )


@app.command(name="list")
def list_models(
    *,
    faults: Annotated[
        bool, Parameter(name="--all", help="Also the sandbox models that misbehave on purpose.")
    ] = False,
    common: Common = DEFAULT,
) -> None:
    """List models by name."""
    found = perform(common, "model.list", faults=faults)
    rows(common, found, COLUMNS, empty="No models. Add some: tollway channel add --help")


@app.command
def show(model: ModelRef, /, *, common: Common = DEFAULT) -> None:
    """Show a model with its channels and every price it has had."""
    found = perform(common, "model.show", name=model)
    details = found["details"]
    facts: list[tuple[str, object]] = [
        (name.replace("_", " "), details[name])
        for name in (
            "name",
            "kind",
            "provider",
            "description",
            "status",
            "callable",
            "aliases",
            "capabilities",
        )
    ]
    facts += [
        ("context window", details["context_window"] or None),
        ("output max", details["output_max"] or None),
        ("parameters", list(details["parameters"])),
    ]
    facts += [
        (f"channel {route['channel']}", f"{route['upstream_model']} ({route['status']})")
        for route in details["channels"]
    ]
    facts += [
        (
            f"price v{version['version']}",
            f"{text(version['rates'])} since {when(version['created_at'])} ({version['source']})",
        )
        for version in found["prices"]
    ]
    one(common, found, facts)


@app.command
def enable(model: ModelRef, /, *, common: Common = DEFAULT) -> None:
    """Let a model be called."""
    found = perform(common, "model.enable", name=model)
    _shown(common, found)
    say(common, f"Enabled the model {found['name']!r}.", f"Undo: tollway model disable {found['name']}")


@app.command
def disable(model: ModelRef, /, *, common: Common = DEFAULT) -> None:
    """Make a model answer 404 until it is enabled again."""
    found = perform(common, "model.disable", name=model)
    _shown(common, found)
    say(common, f"Disabled the model {found['name']!r}.", f"Undo: tollway model enable {found['name']}")


def _shown(common: Common, found: dict[str, Any]) -> None:
    if common.format != "table":
        one(common, found, (), columns=COLUMNS)


def _prices(
    input_price: Decimal | None, output_price: Decimal | None, others: list[str] | None
) -> dict[str, Decimal]:
    found = {} if input_price is None else {"input": input_price}
    if output_price is not None:
        found["output"] = output_price
    for pair in others or ():
        meter, _, value = pair.partition("=")
        try:
            found[meter] = Decimal(value)
        except ArithmeticError:
            raise CommandFailed(
                f"{pair!r} is no rate", "A rate is RATE=CREDITS.", "--rate cache_read=125", code=USAGE
            ) from None
    return found
