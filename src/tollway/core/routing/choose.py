"""Which channels may serve a call, and in what order to try them.

The order: channels the call has an affinity for (a sealed conversation, a warm prompt cache),
then by priority (the lower number first), then those that speak the caller's dialect, and within
equals at random by weight. Channels whose breaker is open are left out; when that would leave
none, the one that is due back first is tried all the same, because a call that surely fails is
worse than one that may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tollway.core.errors import GatewayError
from tollway.core.routing.health import Health
from tollway.core.routing.models import Catalogue, Channel, Model, Route

NO_CHANNELS: Final[frozenset[str]] = frozenset()
SERVING_MAX: Final = 10_000
"""Answers of `serving` that a catalogue remembers; groups are as many as operators make."""


class Wish(Struct, frozen=True):
    """What a call asks of its channel, which channels (by id) it would rather go to, and which cannot serve it.

    `dialect`: None if the call must be translated for any channel.
    """

    group: str
    dialect: str | None
    affinity: frozenset[str] = NO_CHANNELS
    unfit: frozenset[str] = NO_CHANNELS


class Candidate(Struct, frozen=True):
    """A channel to try. `probe`: its breaker is not closed, so this call is also its test."""

    channel: Channel
    route: Route
    probe: bool = False


def candidates(
    model: Model,
    catalogue: Catalogue,
    wish: Wish,
    *,
    health: Health,
    now: int,
    dice: Callable[[], float],
) -> list[Candidate]:
    """The channels to try, best first; never empty, and not the caller's to change. `dice`: numbers in [0, 1).

    A half-open breaker's one probe is claimed for this call if its channel comes first, because
    only then is it sure to be tried; elsewhere such a channel is left out. Raises GatewayError
    (model_not_available) when no enabled channel of the group serves the model.
    """
    found = serving(model, catalogue, wish.group)
    if wish.unfit:
        found = [one for one in found if one.channel.id not in wish.unfit]
    if not found:
        raise _not_available(model, wish.group)
    if len(found) == 1:
        only = found[0]
        if health.untroubled(only.channel.id, model.id):
            return found
        return [_only(only, model.id, health, now)]
    ranked = _ranked(found, wish, dice)
    well: list[Candidate] = []
    for candidate in ranked:
        channel_id = candidate.channel.id
        if not health.available(channel_id, model.id, now):
            continue
        if health.state(channel_id, model.id, now) == "closed":
            well.append(candidate)
        elif not well and health.claim(channel_id, model.id, now):
            well.append(Candidate(candidate.channel, candidate.route, True))
    if well:
        return well
    soonest = min(ranked, key=lambda one: health.available_at(one.channel.id, model.id, now))
    return [Candidate(soonest.channel, soonest.route, True)]


def serving(model: Model, catalogue: Catalogue, group: str) -> list[Candidate]:
    """The enabled channels of a group that serve a model, in no particular order; none if the model is disabled.

    Looked for once in a catalogue; the list is not the caller's to change.
    """
    known: list[Candidate] | None = catalogue.serving.get((model.id, group))
    if known is not None:
        return known
    found: list[Candidate] = []
    if model.status == "enabled":
        for route in model.routes:
            channel = catalogue.channels.get(route.channel_id)
            if channel is not None and channel.status == "enabled" and group in channel.groups:
                found.append(Candidate(channel, route))
    if len(catalogue.serving) >= SERVING_MAX:
        catalogue.serving.clear()
    catalogue.serving[model.id, group] = found
    return found


def _only(candidate: Candidate, model_id: str, health: Health, now: int) -> Candidate:
    if health.available(candidate.channel.id, model_id, now) and not health.claim(
        candidate.channel.id, model_id, now
    ):
        return candidate
    return Candidate(candidate.channel, candidate.route, True)


def _ranked(found: list[Candidate], wish: Wish, dice: Callable[[], float]) -> list[Candidate]:
    # A number u ** (1 / weight) per channel, largest first, draws without replacement in
    # proportion to the weights.
    dialect, affinity = wish.dialect, wish.affinity
    keyed = [
        (
            one.channel.id not in affinity,
            one.channel.priority,
            one.channel.dialect != dialect,
            -(dice() ** (1 / max(one.channel.weight, 1))),
            index,
        )
        for index, one in enumerate(found)
    ]
    keyed.sort()
    return [found[key[-1]] for key in keyed]


def _not_available(model: Model, group: str) -> GatewayError:
    if model.status != "enabled":
        message = f"the model {model.id!r} is disabled"
    else:
        message = (
            f"no enabled channel of the group {group!r} serves {model.id!r}; ask the operator to add one"
        )
    return GatewayError("model_not_available", message, param="model", scope="model")
