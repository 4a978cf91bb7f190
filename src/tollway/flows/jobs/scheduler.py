"""The embedded scheduler: looks every few seconds for jobs that are due, and runs them.

Every process has one, and a lease decides which of them runs a job. Looks are spread by chance so
that processes started together do not ask together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import Any, Final

from tollway.flows.jobs.runner import Runner
from tollway.store import jobs
from tollway.store.base import StoreError

LOOK_S: Final = 5.0

log: Final = logging.getLogger("tollway.jobs")


class Scheduler:
    """Runs what is due until it is cancelled; each job in a task of its own."""

    def __init__(self, runner: Runner, look_s: float = LOOK_S) -> None:
        self._runner = runner
        self._look_s = look_s
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def run(self) -> None:
        """Until cancelled; then jobs under way are given up for another process to run."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._look_s * random.uniform(0.5, 1.5))
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        tools = self._runner.tools
        names = [name for name in self._runner.registry if name not in self._running]
        try:
            found = await tools.store.read(partial(jobs.due, names=names, now=tools.clock()))
        except (StoreError, OSError) as error:
            log.warning("the database could not be asked for jobs: %s", error)
            return
        for name in found:
            task = asyncio.create_task(self._runner.run(name, asked=False), name=f"job {name}")
            self._running[name] = task
            task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        self._running.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("the job %s could not be begun or ended: %s", name, error)
