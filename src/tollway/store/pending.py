"""Ledger operations on their way into a batch, and what this process remembers of its open holds.

The terms of a hold never change once it is written, so a process need not read back the holds it
made itself: a settlement of a remembered hold, within its amount, is *plain* and joins the batch
as one row of one statement. Everything else takes the careful path of `store/careful.py`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from tollway.core.billing.money import AMOUNT_MAX
from tollway.store.base import Balance, Draw, HoldRequest, IllegalOperation, Settled, Settlement

BATCH_MAX: Final = 128
BACKLOG_MAX: Final = 10_000
"""Settlements kept while the database cannot commit; beyond it they are refused."""


class Void(Struct, frozen=True):
    """Release a hold that was refused to its caller without knowing whether it had been committed."""

    hold_id: str
    at: int


Request = HoldRequest | Settlement | Void
Answer = Balance | Settled | BaseException


class Pending:
    """One operation, its caller's future, and in the end its answer."""

    __slots__ = ("answer", "doubtful", "draw", "future", "request")

    def __init__(
        self, request: Request, future: asyncio.Future[Answer] | None, draw: Draw | None = None
    ) -> None:
        self.request = request
        self.future = future
        self.draw = draw
        """Where the credits of a settlement were set aside, if it has no hold yet."""
        self.answer: Answer | None = None
        self.doubtful = False
        """Whether an earlier run may have been committed, although its COMMIT failed."""

    def resolve(self) -> None:
        """Hand the answer to the caller, if it still waits. Runs on the event loop."""
        future, answer = self.future, self.answer
        if future is None or future.done() or answer is None:
            return
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def resolve(batch: list[Pending]) -> None:
    """Hand out all answers of a batch. Runs on the event loop."""
    for one in batch:
        one.resolve()


def check(request: HoldRequest | Settlement) -> None:
    """Refuse amounts that no database row could hold. Raises IllegalOperation."""
    amount = request.amount
    if amount is not None and (type(amount) is not int or not 0 <= amount <= AMOUNT_MAX):
        raise IllegalOperation(f"an amount is an integer from 0 to {AMOUNT_MAX}, not {amount!r}")


class Terms(Struct, frozen=True):
    """What a settlement must know of its hold."""

    wallet: int
    amount: int


class Plan:
    """A batch sorted by how each operation is carried out."""

    __slots__ = ("careful", "holds", "settles")

    def __init__(self) -> None:
        self.holds: list[Pending] = []
        self.settles: list[Pending] = []
        self.careful: list[Pending] = []


class OpenHolds:
    """The open holds this process made. An id is remembered from the commit of its hold to that of its settlement."""

    def __init__(self) -> None:
        self._terms: dict[str, Terms] = {}
        self._extended: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def plan(self, batch: list[Pending]) -> Plan:
        """Sort a batch. No id is twice among the plain operations."""
        plan = Plan()
        seen: set[str] = set()
        for one in batch:
            request = one.request
            if one.doubtful or isinstance(request, Void):
                plan.careful.append(one)
            elif isinstance(request, HoldRequest):
                new = request.id not in seen and request.id not in self._terms
                plain = new and request.extends is None and request.claim is None
                (plan.holds if plain else plan.careful).append(one)
                seen.add(request.id)
            else:
                plain = request.hold_id not in seen and self._plain(request, one.draw)
                (plan.settles if plain else plan.careful).append(one)
                seen.add(request.hold_id)
        return plan

    def _plain(self, request: Settlement, draw: Draw | None) -> bool:
        terms = self._terms.get(request.hold_id) if draw is None else draw.hold
        if terms is None or request.hold_id in self._extended or request.call.id != request.hold_id:
            return False
        return request.amount is None or request.amount <= terms.amount

    def wallet(self, one: Pending) -> int:
        """The wallet of a plain operation."""
        request = one.request
        if isinstance(request, HoldRequest):
            return request.wallet
        assert isinstance(request, Settlement)
        return self._terms[request.hold_id].wallet if one.draw is None else one.draw.hold.wallet

    def learn(self, batch: list[Pending]) -> None:
        """Remember what a committed batch opened and forget what it closed."""
        for one in batch:
            request = one.request
            if isinstance(request, HoldRequest):
                if isinstance(one.answer, Balance):
                    self._opened(request)
            elif isinstance(request, Void) or isinstance(one.answer, Settled):
                self._terms.pop(request.hold_id, None)
                self._extended.pop(request.hold_id, None)

    def _opened(self, request: HoldRequest) -> None:
        if request.extends is None:
            self._terms[request.id] = Terms(request.wallet, request.amount)
        else:
            self._extended[request.extends] = self._extended.get(request.extends, 0) + 1
