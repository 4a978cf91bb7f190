"""The retry budget: how many further attempts a process can afford, so that an outage is not multiplied."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

BUDGET_WINDOW_MS: Final = 10_000
BUDGET_SHARE_PERCENT: Final = 20
BUDGET_PER_SECOND: Final = 3
_COUNT_EVERY_MS: Final = 500


class RetryBudget(Struct, frozen=True):
    """How many retries are affordable: 20 % of the calls of the last 10 s, plus 3 a second.

    A value; `called` and `retried` return the next one. Counts are kept in two halves of the
    window, so what is counted is the last 5 to 10 seconds, and the allowance is for the window.
    """

    half: int = 0
    calls: int = 0
    retries: int = 0
    calls_before: int = 0
    retries_before: int = 0

    def called(self, now: int, count: int = 1) -> RetryBudget:
        """After some calls began."""
        turned = self._turned(now)
        return replace(turned, calls=turned.calls + count)

    def retried(self, now: int) -> RetryBudget | None:
        """After spending one retry; None if there is none to spend."""
        turned = self._turned(now)
        calls = turned.calls + turned.calls_before
        allowed = calls * BUDGET_SHARE_PERCENT // 100 + BUDGET_PER_SECOND * BUDGET_WINDOW_MS // 1000
        if turned.retries + turned.retries_before >= allowed:
            return None
        return replace(turned, retries=turned.retries + 1)

    def _turned(self, now: int) -> RetryBudget:
        length = BUDGET_WINDOW_MS // 2
        if self.half <= now < self.half + length:
            return self
        if self.half <= now < self.half + 2 * length:
            return RetryBudget(now, 0, 0, self.calls, self.retries)
        return RetryBudget(now)


class Retries:
    """The retry budget a process shares among its calls.

    Calls are merely counted until a retry asks what they allow, because nearly none ever does.
    """

    def __init__(self) -> None:
        self.budget = RetryBudget()
        self._uncounted = 0
        self._since = 0

    def called(self, now: int) -> None:
        """Count a call."""
        if self._uncounted == 0:
            self._since = now
        self._uncounted += 1
        if now - self._since >= _COUNT_EVERY_MS:
            self._count(now)

    def may_retry(self, now: int) -> bool:
        """Spend one retry, if there is one."""
        self._count(now)
        spent = self.budget.retried(now)
        if spent is None:
            return False
        self.budget = spent
        return True

    def _count(self, now: int) -> None:
        self.budget = self.budget.called(now, self._uncounted)
        self._uncounted = 0
