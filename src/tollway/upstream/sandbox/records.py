"""The upstream's own truth: what the sandbox received, and how many tokens it generated for whom.

Tests hold it against what a gateway recorded and billed.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Any, Final, Literal

from msgspec import Struct

from tollway.core.json import decode
from tollway.upstream.sandbox.request import Request

KEPT: Final = 1_000
"""How many past calls are remembered one by one."""
_BODY_KEPT: Final = 1_048_576
_KEY: Final = re.compile(r"([?&]key=)[^&]*")
_SECRET: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"})

Outcome = Literal["in_flight", "completed", "cancelled", "broken"]


class Record(Struct, kw_only=True):
    """One call. `outcome`: completed (all of it was written), cancelled (the client left before), or
    broken (the sandbox broke it off, on purpose or because it was closed). `status` is 0 before the head.
    """

    request_id: str
    model: str = ""
    streamed: bool = False
    status: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    outcome: Outcome = "in_flight"

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Records:
    """Counters since the start or the last reset, and the last calls. Used on the event loop only."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None
        self._open: dict[int, Record] = {}
        self._closed: deque[Record] = deque(maxlen=KEPT)
        self._outcomes: Counter[Outcome] = Counter()
        self._models: Counter[str] = Counter()

    def open(self, request: Request) -> Record:
        """A call has arrived."""
        record = Record(request_id=request.headers.get("x-request-id", "")[:128])
        self._open[id(record)] = record
        return record

    def close(self, record: Record, outcome: Outcome) -> None:
        """A call is over. Only the first verdict counts, and none for a call opened in other Records."""
        if self._open.pop(id(record), None) is None:
            return
        record.outcome = outcome
        self._outcomes[outcome] += 1
        self._models[record.model] += 1
        self._closed.append(record)

    def remember(self, request: Request) -> None:
        """Keep a request for `last`, without its credentials."""
        body: Any = None
        if len(request.body) <= _BODY_KEPT:
            try:
                body = decode(request.body)
            except (ValueError, RecursionError):
                body = request.body.decode("utf-8", "replace")
        self._last = {
            "method": request.method,
            "path": _KEY.sub(r"\1***", request.target),
            "headers": {name: _masked(name, value) for name, value in request.headers.items()},
            "body": body,
            "body_bytes": len(request.body),
        }

    @property
    def last(self) -> dict[str, Any] | None:
        """The last request remembered: method, path, headers, body (None if over 1 MiB), body_bytes."""
        return self._last

    def stats(self) -> dict[str, Any]:
        """The counters; `calls` are the last ones, oldest first; `generated_tokens` adds them up by request id."""
        calls = [*self._closed, *self._open.values()]
        generated: Counter[str] = Counter()
        for record in calls:
            if record.request_id:
                generated[record.request_id] += record.generated_tokens
        models = self._models + Counter(record.model for record in self._open.values())
        return {
            "requests": self._outcomes.total() + len(self._open),
            "completed": self._outcomes["completed"],
            "cancelled": self._outcomes["cancelled"],
            "broken": self._outcomes["broken"],
            "in_flight": len(self._open),
            "by_model": dict(models),
            "generated_tokens": dict(generated),
            "calls": [record.as_json() for record in calls],
        }


def _masked(name: str, value: str) -> str:
    if name not in _SECRET:
        return value
    scheme, space, secret = value.partition(" ")
    return f"{scheme} ***" if space and secret else "***"
