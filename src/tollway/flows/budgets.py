"""The ledger accounts of keys' budgets, one per key and period."""

from __future__ import annotations

from typing import Final

from tollway.core.access.keys import Key
from tollway.core.billing.periods import period_of
from tollway.store.base import Ledger


class Budgets:
    """The ledger accounts of keys' budgets; each is looked up once per key, period and limit."""

    KNOWN_MAX: Final = 20_000

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, str, int], int] = {}

    async def account(self, key: Key, now: int) -> int | None:
        """The account that bounds what this key may still spend, None for a key without a budget."""
        if key.budget is None:
            return None
        place = (key.id, period_of(key.budget_period, now), key.budget)
        found = self._known.get(place)
        if found is None:
            found = await self._ledger.budget(key.id, place[1], key.budget, now)
            if len(self._known) >= self.KNOWN_MAX:
                self._known.clear()
            self._known[place] = found
        return found
