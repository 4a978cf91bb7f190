"""Channels: connecting upstreams, showing them, switching them on and off, and removing them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.errors import sentence
from tollway.core.routing.models import Channel
from tollway.flows.admin import amounts, connecting, models, names
from tollway.flows.admin.connecting import AUTO, AddChannel, Settled
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import Nothing
from tollway.flows.admin.refusals import Refused, invalid, unknown
from tollway.flows.clock import new_id
from tollway.flows.listings import is_chat
from tollway.store import channels as rows
from tollway.store import models as catalogues
from tollway.upstream.channels import check
from tollway.upstream.secrets import Secret

AUTO_MAX: Final = 200
"""How many models "auto" takes at most."""


class OneChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel, by id or name."""

    channel: str


class ChannelView(Struct, frozen=True, kw_only=True):
    """A channel as shown. `secret` is the end of its credential, never more; `models`: public to upstream."""

    id: str
    name: str
    dialect: str
    base_url: str
    secret: str
    groups: tuple[str, ...]
    priority: int
    weight: int
    status: str
    models: dict[str, str]
    options: dict[str, Any]
    created_at: int


class AddedModel(Struct, frozen=True, kw_only=True):
    """A model a new channel serves. `created`: it did not exist before; `price` is what it costs."""

    name: str
    upstream_model: str
    created: bool
    price: models.PriceView | None


class NewPrice(Struct, frozen=True, kw_only=True):
    """What a new model costs: rates per meter, and who chose them."""

    rates: dict[str, int]
    source: str


class AddedChannel(Struct, frozen=True, kw_only=True):
    """A new channel, the models it serves, and remarks for its owner."""

    id: str
    name: str
    channel: ChannelView
    models: tuple[AddedModel, ...]
    hints: tuple[str, ...]


class RemovedChannel(Struct, frozen=True, kw_only=True):
    """A channel that is gone, and the models that no channel serves any more."""

    id: str
    name: str
    unserved: tuple[str, ...]


async def add(admin: Admin, request: AddChannel) -> AddedChannel:
    """Add a channel and the models it serves, in one transaction."""
    settled = connecting.settle(request)
    prices = checked_prices(request.input_price, request.output_price)
    secret = None if request.secret is None else connecting.credential(request.secret)
    channel = _channel(admin, request, settled, secret)
    usable(channel, secret, ())
    hints = [*settled.hints]
    if secret is None and channel.base_url.startswith("https://"):
        hints.append("No credential was given; most https upstreams want one (--secret-env NAME)")
    routes, more = await resolved(admin, channel, request.models)
    usable(channel, secret, [upstream for _, upstream in routes])

    def work(change: Change) -> AddedChannel:
        if rows.by_reference(change.conn, channel.name) is not None:
            raise Refused(
                "conflict",
                f"A channel {channel.name!r} exists already",
                "Names of channels are unique.",
                f"Choose another name, or remove it: tollway channel remove {channel.name!r}",
            )
        rows.add(change.conn, channel)
        added = [serve_model(change, channel, pair, prices) for pair in routes]
        shown = view_of(change.conn, channel)
        change.note("channel.add", channel.id, after=audited(shown))
        return AddedChannel(
            id=channel.id, name=channel.name, channel=shown, models=tuple(added), hints=(*hints, *more)
        )

    return await admin.change(work)


async def resolved(
    admin: Admin, channel: Channel, given: tuple[str, ...]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Models as pairs of public and upstream name, "auto" replaced by what the upstream lists; and remarks."""
    named = parsed(tuple(one for one in given if one != AUTO))
    if AUTO not in given:
        return named, []
    listed_there = await listed_upstream(admin, channel)
    known = {public for public, _ in named}
    fitting = [
        name for name in listed_there if is_chat(name) and names.fits_model(name) and name not in known
    ]
    hints = []
    if len(fitting) < len(listed_there) - len(known & set(listed_there)):
        hints.append(
            f"The upstream lists {len(listed_there)} models, of which {len(fitting)} look like chat models;"
            f" see all: tollway channel discover {channel.name!r}"
        )
    if len(fitting) > AUTO_MAX:
        hints.append(f"Only the first {AUTO_MAX} of them were taken; name others with --model")
    return named + [(name, name) for name in fitting[:AUTO_MAX]], hints


async def listed_upstream(admin: Admin, channel: Channel) -> tuple[str, ...]:
    """The models a channel's upstream lists. Raises Refused telling why it does not."""
    if admin.lister is None:
        raise Refused("unavailable", "Upstreams cannot be asked here", "No way to send a call was set up.")
    found = await admin.lister(channel)
    if isinstance(found, str):
        raise Refused(
            "refused",
            f"The models of the channel {channel.name!r} could not be listed",
            f"{found[:1].upper()}{found[1:]}.",
            "Name its models: --model public=upstream",
        )
    return found


async def listed(admin: Admin, _: Nothing) -> list[ChannelView]:
    """Channels, first the ones that are tried first."""

    def query(conn: Connection) -> list[ChannelView]:
        routes = rows.routes(conn)
        return [_view(channel, routes.get(channel.id, {})) for channel in rows.listed(conn)]

    return await admin.read(query)


async def show(admin: Admin, request: OneChannel) -> ChannelView:
    """One channel."""
    return await admin.read(lambda conn: view_of(conn, find(conn, request.channel)))


async def enable(admin: Admin, request: OneChannel) -> ChannelView:
    """Let calls go through a channel."""
    return await _set_status(admin, request, "enabled")


async def disable(admin: Admin, request: OneChannel) -> ChannelView:
    """Let no new call go through a channel; calls under way finish."""
    return await _set_status(admin, request, "disabled")


async def remove(admin: Admin, request: OneChannel) -> RemovedChannel:
    """Delete a channel with its credential; its calls and attempts stay on record."""

    def work(change: Change) -> RemovedChannel:
        channel = find(change.conn, request.channel)
        before = view_of(change.conn, channel)
        rows.remove(change.conn, channel.id)
        change.note("channel.remove", channel.id, before=audited(before))
        left = catalogues.catalogue(change.conn)
        unserved = tuple(name for name in before.models if not left.models[name].routes)
        return RemovedChannel(id=channel.id, name=channel.name, unserved=unserved)

    return await admin.change(work)


def parsed(given: tuple[str, ...]) -> list[tuple[str, str]]:
    """Models written "public=upstream" or with one name for both, as pairs."""
    pairs = []
    for model in given:
        public, equals, upstream = model.partition("=")
        names.model(public)
        pairs.append((public, names.upstream_model(upstream) if equals else public))
    for public, _ in pairs:
        if [name for name, _ in pairs].count(public) > 1:
            invalid(f"The model {public!r} is given twice", "A channel serves a model under one name.")
    return pairs


def checked_prices(input_price: Decimal | None, output_price: Decimal | None) -> NewPrice:
    """What models that do not exist yet will cost: as given, or the provisional price."""
    if input_price is None and output_price is None:
        provisional = {"input": amounts.PROVISIONAL_INPUT, "output": amounts.PROVISIONAL_OUTPUT}
        return NewPrice(rates=amounts.rates(provisional), source=amounts.PROVISIONAL)
    if input_price is None or output_price is None:
        invalid(
            "Only one of the two prices was given",
            "Input and output are both charged.",
            "Give --input-price and --output-price, or neither",
        )
    return NewPrice(rates=amounts.rates({"input": input_price, "output": output_price}), source="operator")


def _channel(admin: Admin, request: AddChannel, settled: Settled, secret: Secret | None) -> Channel:
    now = admin.clock()
    channel_id = new_id("chn", now)
    sealed = None if secret is None else admin.vault.seal(secret, "channel", channel_id, "secret")
    return Channel(
        id=channel_id,
        name=settled.name,
        dialect=settled.dialect,
        base_url=settled.base_url,
        secret=sealed,
        secret_hint="" if secret is None else connecting.hint_of(secret),
        groups=request.groups,
        priority=request.priority,
        weight=request.weight,
        status="enabled",
        created_at=now,
        options=settled.options,
    )


def usable(channel: Channel, secret: Secret | None, upstream_models: Iterable[str]) -> None:
    """Raises Refused where requests for these models of the channel could not even be written."""
    try:
        check(channel, None if secret is None else secret.reveal(), upstream_models)
    except ValueError as error:
        invalid("The channel cannot be used like that", f"{sentence(str(error))}")


def serve_model(change: Change, channel: Channel, pair: tuple[str, str], price: NewPrice) -> AddedModel:
    """Let a channel serve a model, which is made with `price` if it does not exist."""
    public, upstream = pair
    known = catalogues.catalogue(change.conn).resolve(public)
    if known is None:
        models.insert(change, models.AddModel(name=public, prices={}), price.rates, price.source)
        change.note("model.add", public, after={"kind": "chat", "rates": price.rates, "source": price.source})
    name = public if known is None else known.id
    rows.set_route(change.conn, channel_id=channel.id, model_id=name, upstream_model=upstream, now=change.now)
    after = catalogues.catalogue(change.conn)
    return AddedModel(
        name=name,
        upstream_model=upstream,
        created=known is None,
        price=models.view(after.models[name], after).price,
    )


async def _set_status(admin: Admin, request: OneChannel, status: str) -> ChannelView:
    def work(change: Change) -> ChannelView:
        channel = find(change.conn, request.channel)
        if channel.status != status:
            rows.set_status(change.conn, channel.id, status)
            change.note(f"channel.{status}", channel.id, {"status": channel.status}, {"status": status})
        return view_of(change.conn, find(change.conn, channel.id))

    return await admin.change(work)


def find(conn: Connection, reference: str) -> Channel:
    """A channel by id or name, or a refusal with names that resemble it."""
    found = rows.by_reference(conn, reference)
    if found is None:
        unknown("channel", reference, [channel.name for channel in rows.listed(conn)])
    return found


def view_of(conn: Connection, channel: Channel) -> ChannelView:
    """A channel as shown, with the models it serves."""
    return _view(channel, rows.routes(conn).get(channel.id, {}))


def _view(channel: Channel, routes: dict[str, str]) -> ChannelView:
    return ChannelView(
        id=channel.id,
        name=channel.name,
        dialect=channel.dialect,
        base_url=channel.base_url,
        secret=channel.secret_hint,
        groups=channel.groups,
        priority=channel.priority,
        weight=channel.weight,
        status=channel.status,
        models=routes,
        options=dict(channel.options),
        created_at=channel.created_at,
    )


def audited(shown: ChannelView) -> dict[str, Any]:
    """A channel as the audit log keeps it: nothing of its credential."""
    return {
        "name": shown.name,
        "dialect": shown.dialect,
        "base_url": shown.base_url,
        "groups": list(shown.groups),
        "priority": shown.priority,
        "weight": shown.weight,
        "status": shown.status,
        "models": shown.models,
        "options": shown.options,
        "has_secret": bool(shown.secret),
    }
