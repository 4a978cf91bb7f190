"""One run of a job: claimed by a lease, kept while it lasts, its end written down whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from functools import partial
from typing import Any, Final, Literal

from msgspec import Struct

from tollway.flows.clock import new_id
from tollway.flows.jobs.registry import JOBS, Job
from tollway.flows.jobs.work import Outcome, Tools, Work
from tollway.store import jobs
from tollway.store.base import StoreError
from tollway.store.jobs import LEASE_MS, Lease, LeaseLost

RENEW_S: Final = LEASE_MS / 3000
ERROR_MAX: Final = 300

log: Final = logging.getLogger("tollway.jobs")


class RunReport(Struct, frozen=True, kw_only=True):
    """What came of an attempt to run a job. `skipped`: it was not run; `reason` says why.

    `run_id` is the run under way where that is why. The counts are things looked at, and how many
    went well or badly.
    """

    job: str
    run_id: str | None
    status: Literal["ok", "failed", "skipped"]
    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    duration_ms: int = 0
    reason: str = ""
    details: dict[str, Any] = {}


class Runner:
    """Runs jobs for this process."""

    def __init__(self, tools: Tools, registry: dict[str, Job] = JOBS) -> None:
        self.tools = tools
        self.registry = registry
        self._owner = os.urandom(12).hex()

    async def run(self, name: str, *, asked: bool = True) -> RunReport:
        """Run a job now, or, unless `asked`, if it is due. Raises StoreError where nothing could be begun.

        A job that somebody runs already is skipped: there is never a second run beside the first.
        """
        began = self.tools.clock()
        run_id = new_id("run", began)
        claim = partial(jobs.claim, name=name, owner=self._owner, run_id=run_id, now=began, due=not asked)
        lease = await self.tools.store.write(claim)
        if lease is None:
            other = await self.tools.store.read(partial(jobs.running, name=name))
            return RunReport(job=name, run_id=other, status="skipped", reason="It is running already.")
        job = self.registry[name]
        work = Work(self.tools, lease, asked=asked)
        try:
            outcome = await self._kept(job, work)
        except asyncio.CancelledError:
            # The process stops: let another take over at once instead of when the lease runs out.
            stopped = Outcome(ok=False, why="The process was stopped.")
            with contextlib.suppress(StoreError, LeaseLost):
                await asyncio.shield(self._end(work, stopped, pause_ms=0))
            raise
        pause = int(job.every_s * 1000 * random.uniform(0.9, 1.1))
        try:
            await asyncio.shield(self._end(work, outcome, pause_ms=pause))
        except LeaseLost as lost:
            outcome = Outcome(ok=False, why=f"{lost}")
        return _report(lease, outcome, self.tools.clock() - began)

    async def _kept(self, job: Job, work: Work) -> Outcome:
        """Do the work while the lease is renewed; whatever goes wrong becomes a failed outcome."""
        doing = asyncio.ensure_future(job.run(work))
        keeping = asyncio.create_task(self._keep(work.lease))
        try:
            await asyncio.wait((doing, keeping), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            return Outcome(ok=False, why=f"{LeaseLost(work.lease)}")
        except (LeaseLost, StoreError) as error:
            log.warning("the job %s was given up: %s", job.name, error)
            return Outcome(ok=False, why=f"{error}"[:ERROR_MAX])
        except Exception as error:
            log.exception("the job %s failed", job.name)
            return Outcome(ok=False, why=f"{type(error).__name__}: {error}"[:ERROR_MAX])
        finally:
            for task in (doing, keeping):
                task.cancel()
            await asyncio.gather(doing, keeping, return_exceptions=True)

    async def _keep(self, lease: Lease) -> None:
        """Renew a lease until it is lost."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.tools.store.write(partial(jobs.renew, lease=lease, now=self.tools.clock()))
            except LeaseLost:
                return
            except StoreError as error:
                log.warning("the lease of %s could not be renewed: %s", lease.job, error)

    async def _end(self, work: Work, outcome: Outcome, *, pause_ms: int) -> None:
        result = {
            "processed": outcome.processed,
            "succeeded": outcome.succeeded,
            "failed": outcome.failed,
            **({"reason": outcome.why} if outcome.why else {}),
            **outcome.details,
        }
        finish = partial(
            jobs.finish,
            lease=work.lease,
            status="ok" if outcome.ok else "failed",
            result=result,
            memo=work.memo,
            now=self.tools.clock(),
            pause_ms=pause_ms,
        )
        await self.tools.store.write(finish)


def _report(lease: Lease, outcome: Outcome, duration_ms: int) -> RunReport:
    return RunReport(
        job=lease.job,
        run_id=lease.run_id,
        status="skipped" if outcome.skipped else "ok" if outcome.ok else "failed",
        processed=outcome.processed,
        succeeded=outcome.succeeded,
        failed=outcome.failed,
        duration_ms=duration_ms,
        reason=outcome.why,
        details=outcome.details,
    )
