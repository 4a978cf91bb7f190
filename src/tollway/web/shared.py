"""What all connections of one server share: limits, counters, the Date header, the wording of refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Final, Protocol

from tollway.web.limits import Limits
from tollway.web.memory import Memory
from tollway.web.refusals import Envelope, envelope_for, new_request_id

HEALTH_PATHS: Final = frozenset(("/livez", "/readyz", "/metrics"))


class Timed(Protocol):
    """Something with a deadline, in seconds of the event loop's clock; infinite if none runs."""

    deadline: float
    stall_deadline: float

    def expire(self, now: float) -> None:
        """Act on `deadline`, and set the next one or infinity."""
        ...

    def check_stall(self, now: float) -> None:
        """Act on `stall_deadline`, and set the next one or infinity."""
        ...


class Shared:
    """The state of one server. One glance a tick over all connections is cheaper than a timer in each."""

    def __init__(
        self,
        limits: Limits,
        *,
        envelope_for: Callable[[str], Envelope] = envelope_for,
        new_request_id: Callable[[], str] = new_request_id,
        exempt: frozenset[str] = HEALTH_PATHS,
    ) -> None:
        self.limits = limits
        self.envelope_for = envelope_for
        self.new_request_id = new_request_id
        self.exempt = exempt
        self.calls = 0
        """Calls being answered."""
        self.body_bytes = 0
        """Of large bodies whose calls are not over."""
        self.short_of_memory = False
        """Whether calls are shed because this process is as large as it may get."""
        self.draining = False
        self.date_block = b""
        self.log = logging.getLogger("tollway.web")
        self._memory = Memory(limits.memory_soft)

    def tick(self, connections: Iterable[Timed], now: float, wall: float) -> None:
        """Renew the Date header, look at memory, act on deadlines that have passed. `wall` is Unix seconds."""
        self.date_block = b"date: %b\r\n" % formatdate(wall, usegmt=True).encode("ascii")
        short = self._memory.short(now)
        if short is not self.short_of_memory:
            self.short_of_memory = short
            self.log.warning("memory is short: calls are shed" if short else "calls are served again")
        for connection in tuple(connections):
            if connection.deadline <= now:
                connection.expire(now)
            if connection.stall_deadline <= now:
                connection.check_stall(now)
