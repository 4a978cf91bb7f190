"""What a writer of requests must know of the channel and the model it writes for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tollway.core.dialects.base import BUDGETS, Target
from tollway.core.routing.models import Channel, Model, Route
from tollway.core.routing.targets import NOT_TARGET, quirks, set_on
from tollway.upstream.presets import quirks_of

CHANNELS_MAX: Final = 10_000
_blind: dict[str, tuple[Channel, bool]] = {}
"""Whether a channel's upstream is known to load nothing, by the channel's id; asked for every call."""


def target(channel: Channel, route: Route, model: Model, scope: str) -> Target:
    """The Target of a model on a channel; `scope` is the seal scope of the channel's endpoint.

    Quirks of the dialect, the model's name, the preset, the channel, the model and the route are
    laid over each other in that order.
    """
    found: dict[str, Any] = {
        name: value
        for name, value in quirks(channel, route, model, quirks_of(channel)).items()
        if name not in NOT_TARGET
    }
    if "budgets" in found:
        found["budgets"] = {**BUDGETS, **found["budgets"]}
    return msgspec.convert({**found, "scope": scope}, Target)


def needs_data(channel: Channel, route: Route) -> bool:
    """Whether an upstream is known to load nothing from URLs, even for clients of its own dialect."""
    if "fetches_urls" in route.options:
        return route.options["fetches_urls"] is False
    known = _blind.get(channel.id)
    if known is not None and known[0] is channel:
        return known[1]
    if len(_blind) >= CHANNELS_MAX:
        _blind.clear()
    found = {**quirks_of(channel), **set_on(channel.options)}.get("fetches_urls") is False
    _blind[channel.id] = (channel, found)
    return found


def target_by_name(channel: Channel, upstream_model: str, scope: str) -> Target:
    """The Target of a model of which nothing but its upstream name is known."""
    nameless = Model(
        id="",
        kind="chat",
        provider="",
        description="",
        context_window=0,
        output_max=0,
        capabilities=(),
        status="enabled",
        created_at=0,
        price=None,
        aliases=(),
        routes=(),
    )
    return target(channel, Route(channel_id=channel.id, upstream_model=upstream_model), nameless, scope)
