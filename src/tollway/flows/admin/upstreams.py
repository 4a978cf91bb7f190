"""Looking at upstreams: testing a channel, reading its list of models, and the presets there are."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.routing.models import Catalogue, Channel
from tollway.flows.admin import channels, models
from tollway.flows.admin.context import Admin
from tollway.flows.admin.people import Nothing
from tollway.flows.admin.probes import Capability, Finding, ProbeResult, advice, meaning
from tollway.flows.admin.refusals import Refused, unknown
from tollway.flows.listings import is_chat
from tollway.store import channels as rows
from tollway.store import models as catalogues
from tollway.upstream.presets import DEVIATIONS, PRESETS, Preset

TESTS_MAX: Final = 5
"""How many models of a channel one test tries, unless it names a model."""


class TestChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel to test, on one of its models (public name) or on the first few."""

    channel: str
    model: str | None = None


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


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model an upstream lists. `chat`: its name looks like it; `served`: public names it goes by here."""

    upstream_model: str
    chat: bool
    served: tuple[str, ...]


class PresetView(Struct, frozen=True, kw_only=True):
    """A preset as shown: base URLs by dialect, the first the default, and its deviations in words."""

    name: str
    title: str
    bases: dict[str, str]
    variable: str
    docs: str
    platform: str
    quirks: dict[str, object]
    deviations: tuple[str, ...]


async def test(admin: Admin, request: TestChannel) -> TestReport:
    """Send tiny calls through a channel, also a disabled one; nobody is billed for them."""
    if admin.probe is None:
        raise Refused("unavailable", "Channels cannot be tested here", "No way to send a call was set up.")
    catalogue = await admin.read(catalogues.catalogue)
    channel = await admin.read(lambda conn: channels.find(conn, request.channel))
    checks = []
    ok = True
    for public, upstream in _tried(catalogue, channel, request.model):
        result = await admin.probe(channel, upstream)
        ok = ok and result.ok
        checks += _judged(public, result)
    return TestReport(channel=channel.name, ok=ok, checks=tuple(checks))


async def discover(admin: Admin, request: channels.OneChannel) -> list[ListedModel]:
    """Ask a channel's upstream which models it has."""

    def query(conn: Connection) -> tuple[Channel, dict[str, str]]:
        channel = channels.find(conn, request.channel)
        return channel, rows.routes(conn).get(channel.id, {})

    channel, served = await admin.read(query)
    return [
        ListedModel(
            upstream_model=name,
            chat=is_chat(name),
            served=tuple(public for public, upstream in served.items() if upstream == name),
        )
        for name in await channels.listed_upstream(admin, channel)
    ]


async def presets(_: Admin, __: Nothing) -> list[PresetView]:
    """The providers whose address and habits are known."""
    return [_shown(preset) for preset in sorted(PRESETS.values(), key=lambda one: one.name)]


def _shown(preset: Preset) -> PresetView:
    return PresetView(
        name=preset.name,
        title=preset.title,
        bases={str(dialect): url for dialect, url in preset.bases.items()},
        variable=preset.variable,
        docs=preset.docs,
        platform=preset.platform,
        quirks=dict(preset.quirks),
        deviations=tuple(DEVIATIONS[word] for word in preset.deviations),
    )


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
        if route.channel_id == channel.id and (wanted or _is_tried(model.kind, model.capabilities))
    ]
    if wanted is None:
        if not served:
            raise Refused(
                "refused",
                f"The channel {channel.name!r} serves no model that answers in text",
                "There is nothing to test it with.",
                f"tollway channel serve {channel.name!r} --model public=upstream",
            )
        return served[:TESTS_MAX]
    resolved = catalogue.resolve(wanted)
    chosen = [pair for pair in served if resolved is not None and pair[0] == resolved.id]
    if not chosen:
        unknown("model", wanted, [public for public, _ in served])
    return chosen


def _is_tried(kind: str, capabilities: tuple[str, ...]) -> bool:
    return kind == "chat" and models.FAULT not in capabilities
