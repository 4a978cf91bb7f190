"""The ledger accounts of keys' and projects' budgets, one per owner and period."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tollway.core.access.keys import Key
from tollway.core.billing.periods import period_of
from tollway.store.base import Ledger


class Bounds(Struct, frozen=True):
    """The accounts that bound what a key may still spend; None where there is no budget."""

    key: int | None
    project: int | None


UNBOUNDED: Final = Bounds(None, None)


class Budgets:
    """Finds the accounts of budgets; each is looked up once per owner and period, and when its limit changes."""

    KNOWN_MAX: Final = 20_000

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, str], tuple[int, int]] = {}

    async def bounds(self, key: Key, now: int) -> Bounds:
        """The accounts of a key's own budget and of its project's, as of now."""
        if key.budget is None and key.project_budget is None:
            return UNBOUNDED
        own = project = None
        if key.budget is not None:
            own = await self._account(key.id, key.budget_period, key.budget, now)
        if key.project_budget is not None:
            project = await self._account(key.project_id, key.project_period, key.project_budget, now)
        return Bounds(own, project)

    async def _account(self, owner: str, kind: str, limit: int, now: int) -> int:
        place = (owner, period_of(kind, now))
        found = self._known.get(place)
        if found is not None and found[0] == limit:
            return found[1]
        account = await self._ledger.budget(owner, place[1], limit, now)
        if len(self._known) >= self.KNOWN_MAX:
            self._known.clear()
        self._known[place] = (limit, account)
        return account
