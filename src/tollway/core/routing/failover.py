"""What to do after an attempt has failed: the next channel, a short wait, or the error to give.

`failover` is a generator that decides and does nothing; the shell sends each attempt and tells it
the outcome:

    plan = failover(candidates, terms)
    step = next(plan)                      # a Candidate to try, or a Wait
    step = plan.send(Ok() | Fault(...) | Waited(now))
    StopIteration.value                    # None after Ok, else the GatewayError to answer with

Rules: at most three attempts; only before the first content byte, because two half answers are
worse than one error; another channel each time. The one exception to the last: when no other
channel is left and the upstream itself asked to be tried again after a short time, it is waited
for and tried once more. What the caller did wrong is not tried elsewhere. Every attempt after the
first is charged to a retry budget, so that an outage is not multiplied by three.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from tollway.core.errors import GatewayError
from tollway.core.routing.choose import Candidate
from tollway.core.routing.faults import Fault, rule

ATTEMPTS_MAX: Final = 3
WAIT_MAX_MS: Final = 10_000


class Ok(Struct, frozen=True):
    """The attempt delivered content, or a whole answer."""


class Waited(NamedTuple):
    """The wait is over; it is `now` (Unix ms)."""

    now: int


class Wait(NamedTuple):
    """Wait this long, then the same channel will be tried again."""

    ms: int


class Terms(Struct, frozen=True, kw_only=True):
    """What bounds one call's attempts. `deadline`: Unix ms after which none begins.

    `may_retry` is asked before each attempt after the first, with the time, and spends from the
    retry budget. `explain` builds the final error from the last fault and the number of attempts.
    `wait_max_ms` 0 forbids waiting.
    """

    deadline: int
    may_retry: Callable[[int], bool]
    explain: Callable[[Fault, int], GatewayError]
    attempts_max: int = ATTEMPTS_MAX
    wait_max_ms: int = WAIT_MAX_MS


def failover(
    candidates: Iterable[Candidate], terms: Terms
) -> Generator[Candidate | Wait, Ok | Fault | Waited, GatewayError | None]:
    """The plan of one call; see the module's docstring for how to pump it."""
    queue = _distinct(candidates)
    if not queue:
        return GatewayError("no_healthy_channel", "no channel is left to try", retry_after_ms=1000)
    attempts, at, waited = 0, 0, False
    while True:
        candidate = queue[at]
        outcome = yield candidate
        attempts += 1
        if not isinstance(outcome, Fault):
            return None
        now = outcome.now
        if not _goes_on(outcome, attempts, terms):
            return terms.explain(outcome, attempts)
        if at + 1 < len(queue):
            if now >= terms.deadline or not terms.may_retry(now):
                return terms.explain(outcome, attempts)
            at += 1
            continue
        pause = None if waited else _pause(outcome, terms)
        if pause is None or not terms.may_retry(now):
            return terms.explain(outcome, attempts)
        waited = True
        yield Wait(pause)


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.channel.id, candidate)
    return list(found.values())


def _goes_on(fault: Fault, attempts: int, terms: Terms) -> bool:
    return fault.before_first_byte and attempts < terms.attempts_max and rule(fault).elsewhere


def _pause(fault: Fault, terms: Terms) -> int | None:
    """How long to wait for the same channel, None not to."""
    hint = fault.retry_after_ms
    if hint is None or not 0 < hint <= terms.wait_max_ms or fault.now + hint >= terms.deadline:
        return None
    return hint
