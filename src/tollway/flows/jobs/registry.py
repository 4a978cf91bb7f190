"""Every job by its name: what it is for, how often it runs, what does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from tollway.flows.jobs import accounts, channels, maintenance, proof
from tollway.flows.jobs.work import Outcome, Work


class Job(NamedTuple):
    """A job. `every_s`: seconds from the end of a run to the next, give or take a tenth."""

    name: str
    title: str
    every_s: int
    run: Callable[[Work], Awaitable[Outcome]]


JOBS: Final = {
    job.name: job
    for job in (
        Job(
            "scheduled-maintenance",
            "Roll calls up, then delete those past their retention",
            60,
            maintenance.maintain,
        ),
        Job("verify-ledger", "Seal new entries; prove that the books balance", 60, proof.prove),
        Job(
            "keep-credits",
            "Take back expired credits, tell of low balances, forget old idempotency keys",
            60,
            accounts.keep,
        ),
        Job("check-api-channels", "Try channels that are not well", 60, channels.check),
    )
}

ABSENT: Final = {
    "process-pending-callbacks": "This version sends no callbacks, so none can be pending.",
    "check-stale-media-tasks": "This version has no media tasks, so none can be stale.",
    "process-pending-tasks": "This version has no media tasks, so none can be pending.",
}
"""Jobs that schedulers of other gateways call, whose subject does not exist here, and why."""
