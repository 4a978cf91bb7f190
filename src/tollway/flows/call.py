"""One client request on its way through the gateway, from its arrival to its record."""

from __future__ import annotations

from typing import Final

from tollway.core.access.keys import Key
from tollway.core.billing.ledger import Facts, FailedBy
from tollway.core.billing.pricing import estimate_tokens
from tollway.core.dialects.openai_chat.check import ChatRequest
from tollway.core.exchange import Counted, Event, Failed, Finished, Grew, Usage
from tollway.core.routing.models import Model
from tollway.store.base import AttemptRecord

DIALECT: Final = "openai_chat"


class Call:
    """What is known of a call. Filled step by step: whoever admitted it set `key`, `request` and `model`."""

    __slots__ = ("attempts", "created_at", "id", "ip", "key", "model", "request", "route", "user_agent")

    key: Key
    request: ChatRequest
    model: Model

    def __init__(self, *, call_id: str, route: str, ip: str, user_agent: str, created_at: int) -> None:
        self.id = call_id
        self.route = route
        self.ip = ip
        self.user_agent = user_agent
        self.created_at = created_at
        self.attempts: list[AttemptRecord] = []


class Tally:
    """What one upstream's answer amounted to so far, by its events."""

    __slots__ = ("accepted", "chunks", "failed", "finished", "first_at", "size", "usage")

    def __init__(self) -> None:
        self.accepted = False
        self.chunks = 0
        self.size = 0
        self.usage: Usage | None = None
        self.finished = False
        self.failed: Failed | None = None
        self.first_at: int | None = None

    def see(self, events: list[Event]) -> None:
        """Take events in their order."""
        for event in events:
            # Asked by type and not by pattern: this runs for every chunk of every stream.
            if isinstance(event, Grew):
                self.chunks += 1
                self.size += event.size
            elif isinstance(event, Counted):
                self.usage = event.usage
            elif isinstance(event, Finished):
                self.finished = True
            elif isinstance(event, Failed):
                self.failed = event

    @property
    def output_tokens(self) -> int:
        """Our own count of what was generated."""
        return estimate_tokens(self.chunks, self.size)

    def empty(self) -> bool:
        """Whether nothing was generated, by our count and by the upstream's."""
        return self.size == 0 and (self.usage is None or self.usage.output == 0)

    def facts(self, failed_by: FailedBy, *, input_tokens: int, complete: bool) -> Facts:
        """The facts a bill is made from."""
        return Facts(
            accepted=self.accepted,
            failed_by=failed_by,
            input_tokens=input_tokens,
            output_tokens=self.output_tokens,
            usage=self.usage,
            usage_final=complete,
            finished=complete,
        )
