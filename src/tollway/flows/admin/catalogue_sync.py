"""Taking prices and facts over from the catalogue of public models: first as a plan, then for good.

What an operator has priced by hand is left alone unless that is asked for, and a model never comes
into being without a price. Applying a plan twice changes nothing the second time.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from tollway.core.routing.models import Catalogue, Channel, Model
from tollway.flows.admin import amounts, channels, models, names, public_models
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.public_models import PublicModel
from tollway.flows.admin.refusals import invalid, unknown
from tollway.store import channels as routes
from tollway.store import models as rows

MARKUP_MIN: Final = Decimal(-100)
MARKUP_MAX: Final = Decimal(10_000)
_FACTS: Final = (
    "provider",
    "description",
    "context_window",
    "output_max",
    "capabilities",
    "parameters",
)
"""What a model takes over from the catalogue where it says nothing itself."""

_MARKUP: Final = re.compile(r" ([+-][0-9]+(?:\.[0-9]+)?)%$")
"""How the source of a price ends that was taken over with a markup."""

Verdict = Literal["added", "changed", "kept", "unchanged"]


class SyncModels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which public models to take over. Without `provider` and `models`: those that exist here already.

    `models`: a pattern of ids. `channel`: the channel that shall serve them, at the catalogue's
    price as our cost. `markup`: percent on top of the public price; None: what a model had before.
    `overwrite`: also what an operator priced. `apply`: do it; otherwise only the plan is returned.
    """

    provider: str | None = None
    models: str | None = None
    channel: str | None = None
    markup: Decimal | None = None
    overwrite: bool = False
    apply: bool = False


class RateChange(Struct, frozen=True, kw_only=True):
    """One rate before and after, as people write rates; None where there is none. `percent` of the old."""

    rate: str
    old: Decimal | None
    new: Decimal | None
    percent: Decimal | None


class Planned(Struct, frozen=True, kw_only=True):
    """What becomes of one model. `facts`: what it takes over beside its price. `route`: the upstream
    name under which the channel will serve it, None if nothing changes there. `why`: why it is kept.
    """

    name: str
    provider: str
    kind: str
    verdict: Verdict
    rates: tuple[RateChange, ...]
    facts: tuple[str, ...]
    route: str | None
    source: str
    date: str
    certain: bool
    why: str = ""


class SyncPlan(Struct, frozen=True, kw_only=True):
    """What a sync will do or has done (`applied`). `unchanged` counts models that are as they should be."""

    applied: bool
    built_from: str
    as_of: str
    channel: str | None
    added: tuple[Planned, ...]
    changed: tuple[Planned, ...]
    kept: tuple[Planned, ...]
    unchanged: int


class _Step(Struct, frozen=True):
    row: PublicModel
    rates: dict[str, int]
    source: str
    model: Model | None
    planned: Planned


async def sync(admin: Admin, request: SyncModels) -> SyncPlan:
    """Plan, and with `apply` carry out, what the shipped catalogue says about the chosen models."""
    _check(request)
    if not request.apply:
        return await admin.read(lambda conn: _plan(_steps(conn, request), request, _channel(conn, request)))

    def work(change: Change) -> SyncPlan:
        channel = _channel(change.conn, request)
        steps = _steps(change.conn, request)
        for step in steps:
            _apply(change, step, channel)
        return replace(_plan(steps, request, channel), applied=True)

    return await admin.change(work)


def _check(request: SyncModels) -> None:
    if request.provider is not None and request.provider not in public_models.providers():
        unknown("provider", request.provider, public_models.providers())
    if request.models is not None:
        names.model_glob(request.models)
    markup = Decimal(0) if request.markup is None else request.markup
    if not markup.is_finite() or not MARKUP_MIN <= markup <= MARKUP_MAX:
        invalid(
            f"A markup of {markup} percent is not possible",
            f"It is {MARKUP_MIN} to {MARKUP_MAX} percent.",
            "--markup 20",
        )
    if (request.provider or request.models) and not public_models.chosen(request.provider, request.models):
        where = f" of {request.provider}" if request.provider else ""
        invalid(
            f"No public model{where} matches {request.models!r}",
            "The pattern is compared with whole ids; * stands for anything.",
            "--models 'gpt-5*'",
        )


def _channel(conn: Connection, request: SyncModels) -> Channel | None:
    return None if request.channel is None else channels.find(conn, request.channel)


def _steps(conn: Connection, request: SyncModels) -> list[_Step]:
    catalogue, channel = rows.catalogue(conn), _channel(conn, request)
    made_by = {model.id: model.provider for model in catalogue.models.values()}
    found = public_models.chosen(request.provider, request.models)
    if request.provider is None and request.models is None:
        found = [row for row in found if row.id in made_by]
    return [_step(row, catalogue, channel, request) for row in public_models.one_for_each(found, made_by)]


def _step(row: PublicModel, catalogue: Catalogue, channel: Channel | None, request: SyncModels) -> _Step:
    model = catalogue.models.get(row.id)
    markup = _markup(model) if request.markup is None else request.markup
    rates = {key: _marked_up(rate, markup) for key, rate in row.rates.items()}
    old = dict(model.price.rates) if model and model.price else {}
    facts = () if model is None else tuple(name for name in _FACTS if _lacking(model, row, name))
    verdict, why = _verdict(row, model, catalogue, rates, request)
    changes = _changes(old, rates) if verdict != "unchanged" else ()
    route = None if channel is None or verdict == "kept" else _route(row, model, channel)
    if verdict == "unchanged" and (facts or route):
        verdict = "changed"
    planned = Planned(
        name=row.id,
        provider=row.provider,
        kind=row.kind,
        verdict=verdict,
        rates=changes,
        facts=() if verdict == "kept" else facts,
        route=route,
        source=row.source,
        date=row.date,
        certain=row.certain,
        why=why,
    )
    return _Step(row, rates, _source(row, markup), model, planned)


def _verdict(
    row: PublicModel, model: Model | None, catalogue: Catalogue, rates: dict[str, int], request: SyncModels
) -> tuple[Verdict, str]:
    if model is None:
        target = catalogue.aliases.get(row.id)
        return ("added", "") if target is None else ("kept", f"the name is an alias of {target}")
    if model.kind != row.kind:
        return "kept", f"here it is a model of the kind {model.kind}"
    if model.price is None:
        return "changed", ""
    if model.price.rates == rates:
        return "unchanged", ""
    ours = model.price.source != amounts.PROVISIONAL and not model.price.source.startswith(amounts.CATALOGUE)
    return ("kept", "its price was set by hand") if ours and not request.overwrite else ("changed", "")


def _markup(model: Model | None) -> Decimal:
    """The markup a model's price was taken over with; forgetting it would sell at cost."""
    source = model.price.source if model and model.price else ""
    found = _MARKUP.search(source) if source.startswith(amounts.CATALOGUE) else None
    return Decimal(found[1]) if found else Decimal(0)


def _marked_up(rate: int, markup: Decimal) -> int:
    whole, part = markup.as_integer_ratio()
    return -(-rate * (100 * part + whole) // (100 * part))


def _source(row: PublicModel, markup: Decimal) -> str:
    extra = f" {markup:+f}%" if markup else ""
    return f"{amounts.CATALOGUE} {row.date} {row.provider}{extra}"


def _lacking(model: Model, row: PublicModel, name: str) -> bool:
    return not getattr(model, name) and bool(getattr(row, name))


def _route(row: PublicModel, model: Model | None, channel: Channel) -> str | None:
    """The upstream name, if the channel does not serve the model yet or its cost is another."""
    for route in model.routes if model else ():
        if route.channel_id == channel.id:
            return None if route.cost == row.rates else route.upstream_model
    return row.upstream or row.id


def _changes(old: dict[str, int], new: dict[str, int]) -> tuple[RateChange, ...]:
    keys = [*new, *(key for key in old if key not in new)]
    return tuple(_change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def _change(key: str, old: int | None, new: int | None) -> RateChange:
    percent = None
    if old and new is not None:
        percent = (Decimal(new - old) * 100 / old).quantize(Decimal("0.1"), ROUND_HALF_EVEN)
    return RateChange(
        rate=key,
        old=None if old is None else amounts.shown_rate(key, old),
        new=None if new is None else amounts.shown_rate(key, new),
        percent=percent,
    )


def _plan(steps: list[_Step], request: SyncModels, channel: Channel | None) -> SyncPlan:
    found: dict[str, list[Planned]] = {"added": [], "changed": [], "kept": [], "unchanged": []}
    for step in steps:
        found[step.planned.verdict].append(step.planned)
    source = public_models.shipped()
    return SyncPlan(
        applied=request.apply,
        built_from=source.built_from,
        as_of=source.as_of,
        channel=None if channel is None else channel.name,
        added=tuple(found["added"]),
        changed=tuple(found["changed"]),
        kept=tuple(found["kept"]),
        unchanged=len(found["unchanged"]),
    )


def _apply(change: Change, step: _Step, channel: Channel | None) -> None:
    row, planned = step.row, step.planned
    if planned.verdict in ("kept", "unchanged"):
        return
    if step.model is None:
        request = models.AddModel(
            name=row.id,
            prices={},
            kind=row.kind,
            provider=row.provider,
            description=row.description,
            context_window=row.context_window,
            output_max=row.output_max,
            capabilities=row.capabilities,
            parameters=row.parameters,
        )
        models.insert(change, request, step.rates, step.source)
        change.note("model.add", row.id, after=_audited(step))
    elif planned.rates:
        before = {"rates": step.model.price.rates} if step.model.price else None
        rows.add_price(change.conn, model_id=row.id, rates=step.rates, source=step.source, now=change.now)
        change.note("model.price", row.id, before, _audited(step))
    if planned.facts:
        facts = {name: getattr(row, name) for name in planned.facts}
        rows.set_facts(change.conn, row.id, facts)
        change.note("model.facts", row.id, after=facts)
    if channel is not None and planned.route is not None:
        _serve(change, channel, row, planned.route)


def _serve(change: Change, channel: Channel, row: PublicModel, upstream: str) -> None:
    routes.set_route(
        change.conn, channel_id=channel.id, model_id=row.id, upstream_model=upstream, now=change.now
    )
    routes.set_cost(change.conn, channel_id=channel.id, model_id=row.id, cost=row.rates)
    after = {"model": row.id, "upstream_model": upstream, "cost": row.rates}
    change.note("channel.serve", channel.id, after=after)


def _audited(step: _Step) -> dict[str, Any]:
    return {"kind": step.row.kind, "rates": step.rates, "source": step.source}
