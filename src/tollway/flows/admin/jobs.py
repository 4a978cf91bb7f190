"""Jobs: which there are, running one now, and what their runs did."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from msgspec import Struct

from tollway.flows.admin.context import Admin
from tollway.flows.admin.people import Nothing
from tollway.flows.admin.refusals import invalid, unknown
from tollway.flows.jobs.registry import JOBS
from tollway.flows.jobs.runner import Runner, RunReport
from tollway.flows.jobs.work import Tools
from tollway.store import jobs

PAGE_MAX: Final = 1000


class OneJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job, by its name."""

    job: str


class JobHistory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs of one job, or of all. `before`: the `started_at` of the last run of the page before."""

    job: str | None = None
    before: int | None = None
    limit: int = 20


class JobView(Struct, frozen=True, kw_only=True):
    """A job. `running`: somebody runs it now; `next_at` (Unix ms): when it is due, None while it runs."""

    name: str
    title: str
    every_seconds: int
    running: bool
    next_at: int | None
    last_status: str | None
    last_finished_at: int | None


class RunView(Struct, frozen=True, kw_only=True):
    """One run. `result`: what it counted, or why it failed."""

    id: str
    job: str
    status: str
    started_at: int
    finished_at: int | None
    result: dict[str, Any]


async def listed(admin: Admin, _: Nothing) -> list[JobView]:
    """Every job, when it is due, and how its last run ended."""
    states = {state.name: state for state in await admin.read(jobs.listed)}
    now = await admin.read(partial(jobs.moment, now=admin.clock()))
    found = []
    for job in JOBS.values():
        state = states.get(job.name)
        runs = await admin.read(partial(jobs.history, name=job.name, limit=2))
        ended = next((run for run in runs if run.finished_at is not None), None)
        running = state is not None and state.owner is not None and state.lease_until > now
        found.append(
            JobView(
                name=job.name,
                title=job.title,
                every_seconds=job.every_s,
                running=running,
                next_at=None if running else (state.next_at if state else 0),
                last_status=ended.status if ended else None,
                last_finished_at=ended.finished_at if ended else None,
            )
        )
    return found


async def run(admin: Admin, request: OneJob) -> RunReport:
    """Run a job now; it is skipped where it runs already."""
    _known(request.job)
    tools = Tools(store=admin.store, clock=admin.clock, settings=admin.settings, probe=admin.probe)
    return await Runner(tools).run(request.job)


async def history(admin: Admin, request: JobHistory) -> list[RunView]:
    """What the last runs did, newest first."""
    if not 1 <= request.limit <= PAGE_MAX:
        invalid(f"A page of {request.limit} runs is not possible", f"It has 1 to {PAGE_MAX}.")
    if request.job is not None:
        _known(request.job)
    query = partial(jobs.history, name=request.job, limit=request.limit, before=request.before)
    return [
        RunView(
            id=one.id,
            job=one.job,
            status=one.status,
            started_at=one.started_at,
            finished_at=one.finished_at,
            result=one.result,
        )
        for one in await admin.read(query)
    ]


def _known(name: str) -> None:
    if name not in JOBS:
        unknown("job", name, JOBS)
