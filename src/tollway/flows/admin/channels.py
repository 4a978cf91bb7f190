"""Channels: connecting upstreams, testing them, and switching them on and off."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.routing.models import Catalogue, Channel
from tollway.flows.admin import amounts, models, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import Nothing
from tollway.flows.admin.probes import Capability, Finding, ProbeResult, advice, meaning
from tollway.flows.admin.refusals import Refused, invalid, nearest, unknown
from tollway.store import channels as rows
from tollway.store import models as catalogues
from tollway.upstream.channels import SANDBOX_URL
from tollway.upstream.secrets import Secret, Vault

DIALECTS: Final = ("openai_chat",)
"""The upstream dialects that are implemented."""

PRIORITY_MAX: Final = 1000
WEIGHT_MAX: Final = 1_000_000
TESTS_MAX: Final = 5
"""How many models of a channel one test tries, unless it names a model."""

_TIMEOUTS: Final = ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")


class AddChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel to add. `models`: "public=upstream", or a name that is the same on both sides.

    Prices are credits per 10^6 tokens and apply to models that do not exist yet. `options`:
    timeouts in seconds. `secret` is sealed at once and never shown again.
    """

    name: str
    base_url: str
    dialect: str = "openai_chat"
    secret: str | None = None
    models: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("default",)
    priority: int = 0
    weight: int = 1
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    options: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"AddChannel(name={self.name!r}, base_url={self.base_url!r})"


class OneChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel, by id or name."""

    channel: str


class TestChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel to test, on one of its models (public name) or on the first few."""

    channel: str
    model: str | None = None


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


class TestedCapability(Struct, frozen=True, kw_only=True):
    """One capability of one model, tried: the finding, what it means and what helps."""

    model: str
    upstream_model: str
    capability: Capability
    finding: Finding
    status: int
    latency_ms: int
    meaning: str
    advice: str
    detail: str


class TestReport(Struct, frozen=True, kw_only=True):
    """A channel's test. `ok`: every model tried can be served, streamed or whole."""

    channel: str
    ok: bool
    checks: tuple[TestedCapability, ...]


async def add(admin: Admin, request: AddChannel) -> AddedChannel:
    """Add a channel and the models it serves, in one transaction."""
    base_url, hints = _checked(request)
    routes = parsed(request.models)
    prices = checked_prices(request.input_price, request.output_price)
    secret = None if request.secret is None else Secret(_credential(request.secret))
    if secret is None and base_url.startswith("https://"):
        hints.append("No credential was given; most https upstreams want one (--secret-env NAME)")

    def work(change: Change) -> AddedChannel:
        if rows.by_reference(change.conn, request.name) is not None:
            raise Refused(
                "conflict",
                f"A channel {request.name!r} exists already",
                "Names of channels are unique.",
                f"Choose another name, or remove it: tollway channel remove {request.name!r}",
            )
        channel = _channel(change, admin.vault, request, base_url, secret)
        rows.add(change.conn, channel)
        added = [serve_model(change, channel, pair, prices) for pair in routes]
        shown = view_of(change.conn, channel)
        change.note("channel.add", channel.id, after=_audited(shown))
        return AddedChannel(
            id=channel.id, name=channel.name, channel=shown, models=tuple(added), hints=tuple(hints)
        )

    return await admin.change(work)


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
        change.note("channel.remove", channel.id, before=_audited(before))
        left = catalogues.catalogue(change.conn)
        unserved = tuple(name for name in before.models if not left.models[name].routes)
        return RemovedChannel(id=channel.id, name=channel.name, unserved=unserved)

    return await admin.change(work)


async def test(admin: Admin, request: TestChannel) -> TestReport:
    """Send tiny calls through a channel, also a disabled one; nobody is billed for them."""
    if admin.probe is None:
        raise Refused("unavailable", "Channels cannot be tested here", "No way to send a call was set up.")
    catalogue = await admin.read(catalogues.catalogue)
    channel = await admin.read(lambda conn: find(conn, request.channel))
    tried = _tried(catalogue, channel, request.model)
    checks = []
    ok = True
    for public, upstream in tried:
        result = await admin.probe(channel, upstream)
        ok = ok and result.ok
        checks += _judged(public, result)
    return TestReport(channel=channel.name, ok=ok, checks=tuple(checks))


def _judged(public: str, result: ProbeResult) -> list[TestedCapability]:
    return [
        TestedCapability(
            model=public,
            upstream_model=result.upstream_model,
            capability=check.capability,
            finding=check.finding,
            status=check.status,
            latency_ms=check.latency_ms,
            meaning=meaning(check),
            advice=advice(check),
            detail=check.detail,
        )
        for check in result.checks
    ]


def _tried(catalogue: Catalogue, channel: Channel, wanted: str | None) -> list[tuple[str, str]]:
    served = [
        (model.id, route.upstream_model)
        for model in catalogue.models.values()
        for route in model.routes
        if route.channel_id == channel.id and (wanted or models.FAULT not in model.capabilities)
    ]
    if wanted is None:
        if not served:
            raise Refused(
                "refused",
                f"The channel {channel.name!r} serves no model",
                "There is nothing to test it with.",
                "Add it again with --model public=upstream",
            )
        return served[:TESTS_MAX]
    resolved = catalogue.resolve(wanted)
    chosen = [pair for pair in served if resolved is not None and pair[0] == resolved.id]
    if not chosen:
        unknown("model", wanted, [public for public, _ in served])
    return chosen


def _checked(request: AddChannel) -> tuple[str, list[str]]:
    names.name(request.name, "channel")
    if request.dialect not in DIALECTS:
        near = nearest(request.dialect, DIALECTS)
        invalid(
            f"There is no upstream dialect {request.dialect!r}",
            f"Did you mean {near[0]!r}?" if near else f"Implemented: {', '.join(DIALECTS)}.",
            f"--dialect {DIALECTS[0]}",
        )
    for group in request.groups:
        names.group(group)
    if not request.groups:
        invalid("The channel has no group", "Keys reach channels by group.", "--group default")
    if not -PRIORITY_MAX <= request.priority <= PRIORITY_MAX:
        invalid(f"A priority of {request.priority} is not possible", "It is -1000 to 1000; lower goes first.")
    if not 0 < request.weight <= WEIGHT_MAX:
        invalid(f"A weight of {request.weight} is not possible", f"It is 1 to {WEIGHT_MAX}.")
    for option, seconds in request.options.items():
        if option not in _TIMEOUTS or not 0 < seconds <= 86_400:
            invalid(f"The option {option}={seconds} is not possible", f"Options: {', '.join(_TIMEOUTS)}.")
    if request.base_url == SANDBOX_URL and request.secret is not None:
        invalid("The sandbox takes no credential", "It runs inside the gateway.")
    return names.base_url(request.base_url)


def _credential(secret: str) -> str:
    stripped = secret.strip()
    if not stripped:
        invalid(
            "The credential is empty",
            "",
            "Set the variable, or leave the option out for upstreams without one",
        )
    if len(stripped) > 8192 or not stripped.isascii() or not stripped.isprintable():
        invalid(
            "The credential cannot be sent", "It must be one line of at most 8192 printable ASCII characters."
        )
    return stripped


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


def _channel(
    change: Change, vault: Vault, request: AddChannel, base_url: str, secret: Secret | None
) -> Channel:
    channel_id = change.new_id("chn")
    sealed = None if secret is None else vault.seal(secret, "channel", channel_id, "secret")
    return Channel(
        id=channel_id,
        name=request.name,
        dialect=request.dialect,
        base_url=base_url,
        secret=sealed,
        secret_hint="" if secret is None else _hint(secret),
        groups=request.groups,
        priority=request.priority,
        weight=request.weight,
        status="enabled",
        created_at=change.now,
        options=dict(request.options),
    )


def _hint(secret: Secret) -> str:
    text = secret.reveal()
    return f"…{text[-4:]}" if len(text) >= 16 else "…"


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


def _audited(shown: ChannelView) -> dict[str, Any]:
    return {
        "name": shown.name,
        "dialect": shown.dialect,
        "base_url": shown.base_url,
        "groups": list(shown.groups),
        "priority": shown.priority,
        "weight": shown.weight,
        "status": shown.status,
        "models": shown.models,
        "has_secret": bool(shown.secret),
    }
