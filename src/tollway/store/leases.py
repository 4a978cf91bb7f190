"""Leases of credits: a busy wallet's calls are held in memory, within credits that are durably held for all of them.

A hold of its own costs a call a commit before it is made and half of its share of the disk. For a
wallet with many calls at a time this process takes one hold for all of them, a *lease*, and sets
their bounds aside within it. Whatever happens the database has put at least that much aside, so
nothing can be overspent; a call's own hold is written closed, in the transaction that settles it.

A lease never takes what others might need: at most an eighth of what the wallet has available,
only where calls come fast, and it is given back a second after they stop or as soon as anybody is
refused for its sake. Calls under way get holds of their own then, and so does each that takes
longer than a second or two: what the database says a wallet holds for calls is true but for the
last moments. After a crash the leases of the dead are released like all their holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from msgspec.structs import replace

from tollway.store.base import (
    LEASE_PREFIX,
    Balance,
    Draw,
    HoldRequest,
    InsufficientFunds,
    Ledger,
    Settled,
    Settlement,
    StoreError,
    Transfer,
)

HOT_HOLDS: Final = 8
"""Holds of one wallet within `HOT_SECONDS` that make it worth a lease."""
HOT_SECONDS: Final = 0.25
CALLS: Final = 128
"""For how many calls like the last a lease is taken, if it may be that large."""
SHARE: Final = 8
"""The part of what is available that a wallet's leases may take: one in so many."""
FEWEST: Final = 4
"""Calls below which a lease is not worth its commits."""
IDLE_SECONDS: Final = 1.0
WARY_SECONDS: Final = 5.0
"""How long a wallet that was short gets no lease."""
WALLETS_MAX: Final = 10_000

log: Final = logging.getLogger("tollway.store")


class Pool:
    """The leases of one wallet and what is drawn from them; `balance` is the wallet's as the database last told."""

    __slots__ = ("at", "balance", "capacity", "drawn", "ending", "leases", "seen_at", "used", "wallet")

    def __init__(self, wallet: int, balance: Balance) -> None:
        self.wallet = wallet
        self.balance = balance
        self.leases: list[str] = []
        self.drawn: dict[str, Draw] = {}
        self.capacity = self.used = 0
        self.at = self.seen_at = 0
        """When something was last drawn, now and at the last look, in Unix milliseconds."""
        self.ending: asyncio.Task[None] | None = None

    def draw(self, request: HoldRequest) -> bool:
        """Set a call's bound aside, if there is room."""
        used = self.used + request.amount
        if used > self.capacity or self.ending is not None:
            return False
        self.used = used
        self.at = request.created_at
        self.drawn[request.id] = Draw(request, self.leases[-1])
        return True

    def older(self) -> list[Draw]:
        """What was drawn before the last look and is not settled yet."""
        return [draw for draw in self.drawn.values() if draw.hold.created_at <= self.seen_at]

    def forget(self, call_id: str) -> None:
        """A call's hold is in the database, or its settlement is."""
        draw = self.drawn.pop(call_id, None)
        if draw is not None:
            self.used -= draw.hold.amount

    def seen(self, balance: Balance) -> Balance:
        """A balance from the database as callers should see it: held is what calls hold, not what is kept for them.

        True but for the moment in which a lease comes or goes.
        """
        self.balance = balance
        held = max(0, balance.held - self.capacity) + self.used
        return Balance(balance.credited, balance.debited, held, balance.overdraft)


class Leases:
    """A Ledger over another one. `hot`: holds that make a wallet busy. `close` before the store is closed."""

    def __init__(self, ledger: Ledger, hot: int = HOT_HOLDS) -> None:
        self._ledger = ledger
        self._hot = hot
        self._pools: dict[int, Pool] = {}
        self._of_call: dict[str, Pool] = {}
        self._lately: dict[int, tuple[float, int]] = {}
        """When a wallet was first busy lately, and its holds since; a time to come: no lease before that."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    async def hold(self, request: HoldRequest) -> Balance:
        pool = self._pools.get(request.wallet)
        own = (
            request.budget is not None
            or request.project_budget is not None
            or request.claim is not None
            or request.extends is not None
        )
        if pool is not None and not own and self._ledger.prompt and pool.draw(request):
            self._of_call[request.id] = pool
            return pool.balance
        try:
            balance = await self._ledger.hold(request)
        except InsufficientFunds as short:
            if short.kind != "wallet" or not await self._given_back(request.wallet):
                raise
            balance = await self._ledger.hold(request)
        return balance if own else self._busier(request, balance)

    async def settle(self, settlement: Settlement, draw: Draw | None = None) -> Settled:
        call_id = settlement.hold_id
        pool = self._of_call.get(call_id)
        if pool is None:
            return await self._ledger.settle(settlement, draw)
        try:
            settled = await self._ledger.settle(settlement, pool.drawn.get(call_id))
        except InsufficientFunds:
            settled = await asyncio.shield(self._run(self._settle_on_its_own(pool, settlement)))
        except asyncio.CancelledError:
            # It is carried out all the same, and its part of the lease must come back.
            self._run(self.settle(settlement))
            raise
        self._forget(pool, call_id)
        return Settled(settled.first, settled.charged, settled.absorbed, pool.seen(settled.balance))

    async def _settle_on_its_own(self, pool: Pool, settlement: Settlement) -> Settled:
        """Settle a call for which the wallet has nothing but its lease."""
        draw = pool.drawn.get(settlement.hold_id)
        await self._given_back(pool.wallet)
        # The call has its own hold now. Should it have none, because the lease was swept, what the wallet affords is
        # charged and the rest absorbed.
        nothing = None if draw is None else replace(draw, hold=replace(draw.hold, amount=0))
        settled = await self._ledger.settle(settlement, nothing)
        self._forget(pool, settlement.hold_id)
        return settled

    async def transfer(self, transfer: Transfer) -> Balance:
        try:
            return await self._ledger.transfer(transfer)
        except InsufficientFunds:
            if not await self._given_back(transfer.wallet):
                raise
            return await self._ledger.transfer(transfer)

    async def budget(self, owner: str, period: str, limit: int, now: int) -> int:
        return await self._ledger.budget(owner, period, limit, now)

    async def lease(self, request: HoldRequest) -> Balance:
        return await self._ledger.lease(request)

    async def lapse(self, leases: Sequence[str], drawn: Sequence[HoldRequest], at: int) -> None:
        await self._ledger.lapse(leases, drawn, at)

    async def free(self, wallet: int) -> bool:
        return await self._given_back(wallet)

    @property
    def prompt(self) -> bool:
        return self._ledger.prompt

    async def close(self) -> None:
        """Give all leases back; nothing is drawn from then on."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for wallet in tuple(self._pools):
            await self._given_back(wallet)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- when a wallet is busy -----------------------------------------------------------------

    def _busier(self, request: HoldRequest, balance: Balance) -> Balance:
        """Count a hold of its own; returns its balance as callers should see it."""
        pool = self._pools.get(request.wallet)
        now = asyncio.get_running_loop().time()
        since, count = self._lately.get(request.wallet, (now, 0))
        if now - since > HOT_SECONDS:
            since, count = now, 0
        count += 1
        if count >= self._hot and now >= since and not self._closing:
            # Nothing more until this one is there, or for a while where none can be had.
            since, count = now + IDLE_SECONDS, 0
            self._run(self._enlarge(request, balance))
        elif len(self._lately) >= WALLETS_MAX:
            self._lately.clear()
        self._lately[request.wallet] = (since, count)
        return balance if pool is None else pool.seen(balance)

    async def _enlarge(self, like: HoldRequest, balance: Balance) -> None:
        """Take a lease for calls like this one, if the wallet has plenty."""
        pool = self._pools.get(like.wallet)
        taken = 0 if pool is None else pool.capacity
        amount = min(CALLS * like.amount, (balance.available + taken) // SHARE - taken)
        if amount < FEWEST * like.amount or not self._ledger.prompt:
            return
        lease = replace(like, id=f"{LEASE_PREFIX}{like.id}", amount=amount, price_version=0)
        try:
            after = await self._ledger.lease(lease)
        except StoreError:
            return
        if self._closing:
            await self._ledger.lapse((lease.id,), (), like.created_at)
            return
        pool = self._pools.get(like.wallet)
        if pool is None:
            pool = self._pools[like.wallet] = Pool(like.wallet, after)
        pool.leases.append(lease.id)
        pool.capacity += amount
        pool.at = max(pool.at, like.created_at)
        pool.balance = after
        self._lately.pop(like.wallet, None)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look)

    # -- when it is no more --------------------------------------------------------------------

    def _look(self) -> None:
        """Give back what nothing was drawn from since the last look, and where little else is left."""
        self._timer = None
        for pool in tuple(self._pools.values()):
            short = pool.balance.available < pool.capacity
            if short or pool.at == pool.seen_at:
                self._run(self._given_back(pool.wallet, short=short))
            else:
                for draw in pool.older():
                    self._run(self._on_its_own(pool, draw.hold))
            pool.seen_at = pool.at
        if self._pools:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look)

    async def _on_its_own(self, pool: Pool, request: HoldRequest) -> None:
        """Give a call that takes its time a hold of its own."""
        try:
            await self._ledger.hold(request)
        except InsufficientFunds:
            await self._given_back(pool.wallet)
        except StoreError:
            pass  # It is settled by then, or the database is away: its credits are held in the lease.
        else:
            self._forget(pool, request.id)

    def _forget(self, pool: Pool, call_id: str) -> None:
        pool.forget(call_id)
        self._of_call.pop(call_id, None)

    async def _given_back(self, wallet: int, *, short: bool = True) -> bool:
        """Release a wallet's leases; calls under way get holds of their own. False if there are none.

        `short`: for lack of credits, so that it gets none again for some seconds.
        """
        pool = self._pools.get(wallet)
        if pool is None:
            return False
        if short:
            self._lately[wallet] = (asyncio.get_running_loop().time() + WARY_SECONDS, 0)
        if pool.ending is None:
            pool.ending = self._run(self._end(pool))
        await asyncio.shield(pool.ending)
        return True

    async def _end(self, pool: Pool) -> None:
        drawn = [draw.hold for draw in pool.drawn.values()]
        try:
            await self._ledger.lapse(pool.leases, drawn, pool.at)
        except StoreError as error:
            log.warning("the lease of wallet %d could not be given back yet: %s", pool.wallet, error)
            pool.ending = None
            return
        self._pools.pop(pool.wallet, None)
        for one in drawn:
            self._forget(pool, one.id)

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ran)
        return task

    def _ran(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a lease failed", exc_info=error)
