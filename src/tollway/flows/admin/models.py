"""Public models: what they are called, what they cost and whether they may be called."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.routing.models import Catalogue, Model, Price
from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.refusals import Refused, invalid, unknown
from tollway.store import models

KINDS: Final = ("chat", "embedding", "image", "video", "music", "speech", "transcription")
TOKENS_MAX: Final = 100_000_000
FAULT: Final = "fault"
"""The capability of sandbox models that misbehave on purpose; lists for people leave them out."""


class AddModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to add. `prices`: credits by rate key, see `amounts.rates`. Windows are tokens, 0 if unknown.

    `parameters`: see core.routing.models.Model.
    """

    name: str
    prices: dict[str, Decimal]
    kind: str = "chat"
    provider: str = ""
    description: str = ""
    context_window: int = 0
    output_max: int = 0
    capabilities: tuple[str, ...] = ()
    parameters: dict[str, dict[str, Any]] = {}


class PriceModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new price of a model: credits by rate key, see `amounts.rates`. It replaces the old one whole."""

    name: str
    prices: dict[str, Decimal]


class OneModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, by name or alias."""

    name: str


class ListModels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which models to list. `faults`: also the sandbox models that misbehave on purpose."""

    faults: bool = False


class AliasModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another name for a model."""

    alias: str
    name: str


class OneAlias(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An alias."""

    alias: str


class PriceView(Struct, frozen=True, kw_only=True):
    """A price version. `rates`: credits by rate key; `provisional`: nobody chose it; `source`: who did."""

    version: int
    rates: dict[str, Decimal]
    provisional: bool
    source: str
    created_at: int


class RouteView(Struct, frozen=True, kw_only=True):
    """A channel that serves a model, and what it calls the model there."""

    channel: str
    upstream_model: str
    status: str


class ModelView(Struct, frozen=True, kw_only=True):
    """A model as shown. `callable`: enabled, priced and served by an enabled channel."""

    name: str
    kind: str
    provider: str
    description: str
    context_window: int
    output_max: int
    capabilities: tuple[str, ...]
    parameters: dict[str, Any]
    status: str
    callable: bool
    price: PriceView | None
    aliases: tuple[str, ...]
    channels: tuple[RouteView, ...]
    created_at: int


class ModelReport(Struct, frozen=True, kw_only=True):
    """A model with every price it has had, newest first."""

    details: ModelView
    prices: tuple[PriceView, ...]


class Repriced(Struct, frozen=True, kw_only=True):
    """A price change: the model's old price (None: it had none) and its new one."""

    name: str
    old: PriceView | None
    new: PriceView


class AliasView(Struct, frozen=True, kw_only=True):
    """An alias and the model it stands for."""

    alias: str
    name: str


async def add(admin: Admin, request: AddModel) -> ModelView:
    """Add a model with its price. Refused if a model or alias has that name."""
    names.model(request.name)
    rates = priced(request.kind, request.prices)
    _check(request)

    def work(change: Change) -> ModelView:
        refuse_taken(change.conn, request.name)
        insert(change, request, rates, "operator")
        change.note("model.add", request.name, after={"kind": request.kind, "rates": rates})
        return _found(models.catalogue(change.conn), request.name)

    return await admin.change(work)


async def price(admin: Admin, request: PriceModel) -> Repriced:
    """Give a model a new price; calls already held keep the price they were held at."""

    def work(change: Change) -> Repriced:
        found = find(models.catalogue(change.conn), request.name)
        rates = priced(found.kind, request.prices)
        models.add_price(change.conn, model_id=found.id, rates=rates, source="operator", now=change.now)
        newest = models.prices(change.conn, found.id)[0]
        change.note(
            "model.price", found.id, {"rates": found.price.rates} if found.price else None, {"rates": rates}
        )
        return Repriced(
            name=found.id, old=_price_view(found.price) if found.price else None, new=_price_view(newest)
        )

    return await admin.change(work)


async def alias(admin: Admin, request: AliasModel) -> AliasView:
    """Give a model another name."""
    names.model(request.alias)

    def work(change: Change) -> AliasView:
        found = find(models.catalogue(change.conn), request.name)
        refuse_taken(change.conn, request.alias)
        models.add_alias(change.conn, alias=request.alias, model_id=found.id, now=change.now)
        change.note("model.alias", found.id, after={"alias": request.alias})
        return AliasView(alias=request.alias, name=found.id)

    return await admin.change(work)


async def unalias(admin: Admin, request: OneAlias) -> AliasView:
    """Take an alias away."""

    def work(change: Change) -> AliasView:
        target = models.alias_target(change.conn, request.alias)
        if target is None:
            unknown("alias", request.alias, models.catalogue(change.conn).aliases)
        models.remove_alias(change.conn, request.alias)
        change.note("model.unalias", target, before={"alias": request.alias})
        return AliasView(alias=request.alias, name=target)

    return await admin.change(work)


async def listed(admin: Admin, request: ListModels) -> list[ModelView]:
    """Models by name."""
    catalogue = await admin.read(models.catalogue)
    return [
        view(model, catalogue)
        for model in catalogue.models.values()
        if request.faults or FAULT not in model.capabilities
    ]


async def show(admin: Admin, request: OneModel) -> ModelReport:
    """A model with its price history."""

    def query(conn: Connection) -> ModelReport:
        catalogue = models.catalogue(conn)
        found = find(catalogue, request.name)
        history = tuple(_price_view(version) for version in models.prices(conn, found.id))
        return ModelReport(details=view(found, catalogue), prices=history)

    return await admin.read(query)


async def enable(admin: Admin, request: OneModel) -> ModelView:
    """Let a model be called. Refused while it has no price."""
    return await _set_status(admin, request, "enabled")


async def disable(admin: Admin, request: OneModel) -> ModelView:
    """Make a model answer 404 until it is enabled again."""
    return await _set_status(admin, request, "disabled")


def find(catalogue: Catalogue, name: str) -> Model:
    """A model by name or alias, or a refusal with names that resemble it."""
    found = catalogue.resolve(name)
    if found is None:
        unknown("model", name, [*catalogue.models, *catalogue.aliases])
    return found


def view(model: Model, catalogue: Catalogue) -> ModelView:
    """A model as shown."""
    routes = tuple(
        RouteView(
            channel=catalogue.channels[route.channel_id].name,
            upstream_model=route.upstream_model,
            status=catalogue.channels[route.channel_id].status,
        )
        for route in model.routes
    )
    served = any(route.status == "enabled" for route in routes)
    return ModelView(
        name=model.id,
        kind=model.kind,
        provider=model.provider,
        description=model.description,
        context_window=model.context_window,
        output_max=model.output_max,
        capabilities=model.capabilities,
        parameters=model.parameters,
        status=model.status,
        callable=served and model.status == "enabled" and model.price is not None,
        price=None if model.price is None else _price_view(model.price),
        aliases=model.aliases,
        channels=routes,
        created_at=model.created_at,
    )


def insert(change: Change, request: AddModel, rates: dict[str, int], source: str) -> None:
    """Insert a model that does not exist yet, with its first price."""
    model = Model(
        id=request.name,
        kind=request.kind,
        provider=request.provider,
        description=request.description,
        context_window=request.context_window,
        output_max=request.output_max,
        capabilities=request.capabilities,
        status="enabled",
        created_at=change.now,
        price=None,
        aliases=(),
        routes=(),
        parameters=dict(request.parameters),
    )
    # Somebody else may have made the model since it was looked for; then its price is theirs.
    if models.add(change.conn, model):
        models.add_price(change.conn, model_id=request.name, rates=rates, source=source, now=change.now)


def priced(kind: str, prices: dict[str, Decimal]) -> dict[str, int]:
    """Prices as rates; a chat model needs one for input and one for output, so that nothing is free by omission."""
    rates = amounts.rates(prices)
    missing = [meter for meter in ("input", "output") if meter not in rates]
    if kind == "chat" and missing:
        invalid(
            f"The price lacks {' and '.join(missing)}",
            "A chat model is charged for input and for output; 0 is a price, too.",
            "--input-price 3000 --output-price 15000 (credits per 10^6 tokens)",
        )
    return rates


def refuse_taken(conn: Connection, name: str) -> None:
    """Refuse a name that a model or an alias has."""
    catalogue = models.catalogue(conn)
    if name in catalogue.models:
        raise Refused(
            "conflict",
            f"A model {name!r} exists already",
            "Names of models and aliases are unique.",
            f"tollway model show {name}",
        )
    if name in catalogue.aliases:
        raise Refused(
            "conflict",
            f"{name!r} is an alias of {catalogue.aliases[name]!r} already",
            "Names of models and aliases are unique.",
            f"tollway model unalias {name}",
        )


def _check(request: AddModel) -> None:
    if request.kind not in KINDS:
        invalid(f"There is no kind {request.kind!r} of models", f"The kinds are {', '.join(KINDS)}.")
    for tokens in (request.context_window, request.output_max):
        if not 0 <= tokens <= TOKENS_MAX:
            invalid(f"{tokens} tokens are not possible", f"A window has 0 (unknown) to {TOKENS_MAX} tokens.")
    if len(request.parameters) > 100 or not all(name.isidentifier() for name in request.parameters):
        invalid("The parameters are not possible", "Each of at most 100 has a name of letters, digits and _.")
    for text in (request.provider, request.description):
        if len(text) > 500 or not (text.isprintable()):
            invalid("The text is too long or not printable", "It has at most 500 printable characters.")


async def _set_status(admin: Admin, request: OneModel, status: str) -> ModelView:
    def work(change: Change) -> ModelView:
        found = find(models.catalogue(change.conn), request.name)
        if status == "enabled" and found.price is None:
            raise Refused(
                "refused",
                f"The model {found.id!r} has no price",
                "A model without a price is never called, because nothing could be charged.",
                f"tollway model price {found.id} --input-price 3000 --output-price 15000",
            )
        if found.status != status:
            models.set_status(change.conn, found.id, status)
            change.note(f"model.{status}", found.id, _status(found.status), _status(status))
        return _found(models.catalogue(change.conn), found.id)

    return await admin.change(work)


def _status(status: str) -> dict[str, Any]:
    return {"status": status}


def _found(catalogue: Catalogue, name: str) -> ModelView:
    return view(catalogue.models[name], catalogue)


def _price_view(price: Price) -> PriceView:
    return PriceView(
        version=price.version,
        rates=amounts.shown_rates(price.rates),
        provisional=price.source == amounts.PROVISIONAL,
        source=price.source,
        created_at=price.created_at,
    )
