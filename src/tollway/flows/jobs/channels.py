"""Check-api-channels: a tiny call through channels that are not well, so that they return by themselves.

In time, only models whose breaker is half-open in this process are tried. When somebody asks,
each enabled channel is tried once. A channel is sent at most `PAID_MAX` tries a day, because
upstreams charge for them; nobody else does.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from tollway.core.routing.models import Catalogue, Channel
from tollway.flows.jobs.work import Outcome, Probe, Work
from tollway.store import models

PAID_MAX: Final = 20
TOGETHER: Final = 4
FAULT: Final = "fault"
"""The capability of sandbox models that misbehave on purpose: they say nothing about their channel."""


class Try(NamedTuple):
    """A model of a channel to try."""

    channel: Channel
    model: str
    upstream_model: str


async def check(work: Work) -> Outcome:
    """Try channels and tell their breakers."""
    probe = work.tools.probe
    if probe is None:
        return Outcome(skipped=True, why="Nothing can be sent from here; the running gateway does it.")
    catalogue = await work.read(models.catalogue)
    tries = _asked(catalogue) if work.asked else _ailing(work, catalogue)
    allowed = [one for one in tries if _pays(work, one.channel.id)]
    gate = asyncio.Semaphore(TOGETHER)
    found = await asyncio.gather(*(_try(work, probe, one, gate) for one in allowed))
    good = sum(ok for ok, _ in found)
    return Outcome(
        processed=len(found),
        succeeded=good,
        failed=len(found) - good,
        details={"channels": [facts for _, facts in found], "over_limit": len(tries) - len(allowed)},
    )


async def _try(work: Work, probe: Probe, one: Try, gate: asyncio.Semaphore) -> tuple[bool, dict[str, Any]]:
    async with gate:
        result = await probe(one.channel, one.upstream_model)
    health, now = work.tools.health, work.now()
    if health is not None and result.ok:
        health.ok(one.channel.id, one.model, now)
    elif health is not None:
        health.fault(one.channel.id, one.model, now, dice=random.random())
    findings = [check.finding for check in result.checks]
    return result.ok, {"channel": one.channel.name, "model": one.model, "findings": findings}


def _served(catalogue: Catalogue) -> list[Try]:
    return [
        Try(catalogue.channels[route.channel_id], model.id, route.upstream_model)
        for model in catalogue.models.values()
        for route in model.routes
        if model.status == "enabled"
        and FAULT not in model.capabilities
        and catalogue.channels[route.channel_id].status == "enabled"
    ]


def _asked(catalogue: Catalogue) -> list[Try]:
    first: dict[str, Try] = {}
    for one in _served(catalogue):
        first.setdefault(one.channel.id, one)
    return list(first.values())


def _ailing(work: Work, catalogue: Catalogue) -> list[Try]:
    health, now = work.tools.health, work.now()
    if health is None or not len(health):
        return []
    return [one for one in _served(catalogue) if health.claim(one.channel.id, one.model, now)]


def _pays(work: Work, channel_id: str) -> bool:
    """Count a try against its channel's day; False when the day is used up."""
    day = datetime.fromtimestamp(work.now() // 1000, UTC).date().isoformat()
    if work.memo.get("day") != day:
        work.memo.update(day=day, sent={})
    sent: dict[str, int] = work.memo["sent"]
    if sent.get(channel_id, 0) >= PAID_MAX:
        return False
    sent[channel_id] = sent.get(channel_id, 0) + 1
    return True
