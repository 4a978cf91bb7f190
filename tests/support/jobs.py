"""What tests of jobs share: a clock that stands still, and a runner over a store."""

from __future__ import annotations

from typing import Any

from tollway.config import Settings
from tollway.flows.jobs.registry import JOBS, Job
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.store.base import Store

NOW = 1_800_000_000_000
HOUR = 3_600_000


class Clock:
    """Unix milliseconds that stand still until a test moves them."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def runner_of(store: Store, clock: Clock, registry: dict[str, Job] = JOBS, **more: Any) -> Runner:
    settings = more.pop("settings", Settings(call_days=30))
    return Runner(Tools(store=store, clock=clock, settings=settings, **more), registry)
