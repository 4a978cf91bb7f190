"""A gateway that kills itself at a named point of a call: `CRASH_AT=POINT python -m tests.support.crashing serve ...`.

Without a point it is an ordinary one. The points are where the ledger, the transport, the server and the sweep meet the rest: each is
one function, wrapped before anything has begun.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from tests.support.patient import patient

from tollway.__main__ import run
from tollway.store import owners
from tollway.store.ledger import QueuedLedger
from tollway.upstream.client import Client
from tollway.web.cycle import Cycle

VARIABLE = "CRASH_AT"
POINTS: dict[str, tuple[Any, str, str]] = {
    "before hold": (QueuedLedger, "hold", "begins"),
    "after hold commit": (QueuedLedger, "hold", "has returned"),
    "headers": (Client, "send", "has returned"),
    "before settle": (QueuedLedger, "settle", "begins"),
    "after settle commit": (QueuedLedger, "settle", "has returned"),
    "before response end": (Cycle, "end", "begins"),
    "in sweep": (owners, "release", "has released"),
}


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


def _dies_first(*_: Any, **__: Any) -> NoReturn:
    die()


def _dies_after(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    async def wrapped(*args: Any, **options: Any) -> NoReturn:
        await real(*args, **options)
        die()

    return wrapped


def _dies_in_it(real: Callable[..., int]) -> Callable[..., int]:
    """After a change that did something, before its transaction is committed."""

    @functools.wraps(real)
    def wrapped(*args: Any, **options: Any) -> int:
        return real(*args, **options) and die()

    return wrapped


def main() -> int | None:
    if point := os.environ.pop(VARIABLE):
        owner, name, when = POINTS[point]
        made = {"begins": lambda _: _dies_first, "has returned": _dies_after, "has released": _dies_in_it}
        setattr(owner, name, made[when](getattr(owner, name)))
    patient()
    return run()


if __name__ == "__main__":
    sys.exit(main())
