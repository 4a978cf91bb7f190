"""One client request on its way through the gateway, from its arrival to its record."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tollway.core.access.keys import Key
from tollway.core.billing.ledger import Facts, FailedBy
from tollway.core.billing.pricing import estimate_tokens
from tollway.core.dialects.asked import Asked
from tollway.core.exchange import (
    Answered,
    Counted,
    Event,
    Failed,
    Finished,
    Grew,
    PartGrew,
    PartStarted,
    Request,
    Usage,
    size_of,
)
from tollway.core.routing.models import Model
from tollway.store.base import AttemptRecord, Claim

Keeper = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]
"""Told the whole answer as the client has it, when it is paid and before its last bytes go out."""


class Call:
    """What is known of a call. Filled step by step: whoever admitted it set `key`, `request` and `model`.

    `passed`: headers of the client that a native upstream shall have. `keeper`: who stores the
    answer. `scope`: the account behind the channel that answered. `session`: what a header says
    belongs together, "" if none does. `begun`: the attempt that an upstream had accepted when the
    client left before the first word. `claim`: the idempotency key to be taken with the hold.
    `max_credits`: what a header says the call may cost. `shed`: what was left out of the request, and why.
    """

    __slots__ = (
        "_exchange",
        "attempts",
        "begun",
        "claim",
        "created_at",
        "id",
        "ip",
        "keeper",
        "key",
        "max_credits",
        "model",
        "passed",
        "request",
        "route",
        "scope",
        "session",
        "shed",
        "user_agent",
    )

    key: Key
    request: Asked
    model: Model

    def __init__(self, call_id: str, route: str, ip: str, user_agent: str, created_at: int) -> None:
        self.id = call_id
        self.route = route
        self.ip = ip
        self.user_agent = user_agent
        self.created_at = created_at
        self.attempts: list[AttemptRecord] = []
        self.passed: tuple[tuple[bytes, bytes], ...] = ()
        self.shed: tuple[str, ...] = ()
        self.keeper: Keeper | None = None
        self.scope = ""
        self.claim: Claim | None = None
        self.max_credits: str | None = None
        self.session = ""
        self.begun: object = None
        self._exchange: Request | None = None

    @property
    def token(self) -> str:
        """What every id in the answer is made of."""
        return self.id.rpartition("_")[2]

    def exchange(self) -> Request:
        """The request in canonical values, read at most once."""
        if self._exchange is None:
            self._exchange = self.request.exchange()
        return self._exchange


class Tally:
    """What one upstream's answer amounted to so far, by its events."""

    __slots__ = (
        "_counted",
        "accepted",
        "chunks",
        "declined",
        "failed",
        "finished",
        "first_at",
        "generates",
        "size",
        "usage",
    )

    def __init__(self) -> None:
        self.accepted = False
        self.chunks = 0
        self.size = 0
        self.usage: Usage | None = None
        self.finished = False
        self.declined = False
        self.generates = True
        """Whether text is expected at all; who asks for vectors is neither given nor charged any."""
        self.failed: Failed | None = None
        self.first_at: int | None = None
        self._counted = 0

    def see(self, events: list[Event]) -> None:
        """Take events in their order."""
        for event in events:
            # Asked by exact type, which costs a fifth of a pattern: this runs for every chunk of every stream.
            if type(event) is Grew:
                self.chunks += event.times
                self.size += event.size
            elif type(event) is Answered:
                self.chunks += 1
                self.size += event.size
                self.finished = True
                self.declined = event.reason == "content_filter"
                self.usage = event.usage
                self._counted = self.size
            elif type(event) is Counted:
                self.usage = event.usage
                self._counted = self.size
            elif type(event) is Finished:
                self.finished = True
                self.declined = event.reason == "content_filter"
            elif type(event) is PartGrew or type(event) is PartStarted:
                size = size_of(event)
                self.chunks += size > 0
                self.size += size
            elif type(event) is Failed:
                self.failed = event

    @property
    def output_tokens(self) -> int:
        """Our own count of what was generated."""
        return estimate_tokens(self.chunks, self.size)

    def empty(self) -> bool:
        """Whether nothing was generated, by our count and by the upstream's, though nothing was declined either."""
        if not self.generates or self.declined:
            return False
        return self.size == 0 and (self.usage is None or self.usage.output == 0)

    def facts(self, failed_by: FailedBy, *, input_tokens: int, complete: bool) -> Facts:
        """The facts a bill is made from."""
        return Facts(
            accepted=self.accepted,
            failed_by=failed_by,
            input_tokens=input_tokens,
            output_tokens=self.output_tokens,
            usage=self.usage,
            # Totals told after all that was generated are no running ones.
            usage_final=complete or self._counted == self.size,
            finished=complete,
            silent=self.declined or not self.generates,
        )
