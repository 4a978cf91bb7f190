"""What a job is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

from tollway.config import Settings
from tollway.core.routing.health import Health
from tollway.core.routing.models import Channel
from tollway.store import jobs
from tollway.store.base import Store
from tollway.store.jobs import Lease

T = TypeVar("T")


class Probed(Protocol):
    """What a test of a channel found; `flows/admin/probes.py` has it whole."""

    @property
    def ok(self) -> bool: ...
    @property
    def checks(self) -> tuple[Any, ...]: ...


Probe = Callable[[Channel, str], Awaitable[Probed]]


class Tools(Struct, frozen=True, kw_only=True):
    """What jobs work with. `clock` gives Unix milliseconds; without `probe` nothing can be sent.

    `health`: the breakers of this process, None where no calls are served.
    """

    store: Store
    clock: Callable[[], int]
    settings: Settings
    probe: Probe | None = None
    health: Health | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What a run did: things looked at, and how many of them went well or badly.

    `ok` False means that what was looked at is wrong, and whoever watches must hear of it. `why`
    says so, or why there was nothing to do (`skipped`).
    """

    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    ok: bool = True
    skipped: bool = False
    why: str = ""
    details: dict[str, Any] = {}


class Work:
    """One run of a job, under its lease. `asked`: somebody wants it now, and wants all of it.

    `memo` is what the last run left; what a job puts there is kept for the next.
    """

    def __init__(self, tools: Tools, lease: Lease, *, asked: bool) -> None:
        self.tools = tools
        self.lease = lease
        self.asked = asked
        self.memo: dict[str, Any] = dict(lease.memo)

    def now(self) -> int:
        """Unix milliseconds."""
        return self.tools.clock()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query, however long it takes."""
        return await self.tools.store.read(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run a short change, unless the lease is lost. Raises LeaseLost, StoreError."""

        def fenced(conn: Connection) -> T:
            jobs.guard(conn, self.lease)
            return change(conn)

        return await self.tools.store.write(fenced)
