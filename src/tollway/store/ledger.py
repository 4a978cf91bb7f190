"""The ledger as callers see it, over a queue of holds and settlements and a way to run a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from sqlalchemy import Connection

from tollway.core.billing.money import AMOUNT_MAX
from tollway.store import careful
from tollway.store.base import Balance, Draw, HoldRequest, IllegalOperation, Settled, Settlement, Transfer
from tollway.store.pending import Answer, Pending, check

BUDGETS_MAX: Final = 50_000


class Change(Protocol):
    """Runs a change that may be run again, in a transaction of its own."""

    def __call__(self, change: Callable[[Connection], Any], /) -> Awaitable[Any]: ...


class QueuedLedger:
    """The Ledger of both stores. `submit` queues an operation, `change` runs one that is not hot.

    A caller may be cancelled while it waits; the operation is carried out all the same, and
    running it again tells what it did.
    """

    def __init__(
        self, owner: str, submit: Callable[[Pending], None], change: Change, prompt: Callable[[], bool]
    ) -> None:
        self._owner = owner
        self._submit = submit
        self._change = change
        self._prompt = prompt
        self._loop: asyncio.AbstractEventLoop | None = None
        self._budgets: dict[tuple[str, str], tuple[int, int]] = {}

    async def hold(self, request: HoldRequest) -> Balance:
        return cast("Balance", await self._queue(request))

    async def settle(self, settlement: Settlement, draw: Draw | None = None) -> Settled:
        return cast("Settled", await self._queue(settlement, draw))

    def _queue(self, request: HoldRequest | Settlement, draw: Draw | None = None) -> asyncio.Future[Answer]:
        check(request)
        loop = self._loop
        if loop is None or loop.is_closed():
            # Kept, because to find out which loop runs Python 3.11 asks the system which process this is.
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._submit(Pending(request, future, draw))
        return future

    async def lease(self, request: HoldRequest) -> Balance:
        check(request)
        return cast("Balance", await self._change(partial(careful.hold, owner=self._owner, request=request)))

    async def lapse(self, leases: Sequence[str], drawn: Sequence[HoldRequest], at: int) -> None:
        await self._change(partial(careful.lapse, owner=self._owner, leases=leases, drawn=drawn, at=at))

    async def free(self, wallet: int) -> bool:  # noqa: ARG002
        return False

    @property
    def prompt(self) -> bool:
        return self._prompt()

    async def transfer(self, transfer: Transfer) -> Balance:
        amount = transfer.amount
        if type(amount) is not int or not 0 < amount <= AMOUNT_MAX:
            raise IllegalOperation(f"a transfer moves 1 to {AMOUNT_MAX} micro-credits, not {amount!r}")
        return cast("Balance", await self._change(partial(careful.transfer, request=transfer)))

    async def budget(self, owner: str, period: str, limit: int, now: int) -> int:  # noqa: ARG002
        found = self._budgets.get((owner, period))
        if found is not None and found[0] == limit:
            return found[1]
        change = partial(careful.budget, owner=owner, period=period, limit=limit)
        account = cast("int", await self._change(change))
        if len(self._budgets) >= BUDGETS_MAX:
            self._budgets.clear()
        self._budgets[owner, period] = (limit, account)
        return account
