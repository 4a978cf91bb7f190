"""Computing every bill again from the usage and the price version it was made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, select

from tollway.core import json
from tollway.core.billing.money import AMOUNT_MAX
from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import Rates
from tollway.store.schema import call, price_version

PAGE: Final = 20_000
NAMED: Final = 500
"""Calls asked for by their ids at a time."""

_COLUMNS: Final = (
    call.c.id, call.c.usage, call.c.price_version, call.c.discount, call.c.charged, call.c.absorbed, call.c.held,
)  # fmt: skip


def wrong_bills(conn: Connection, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each call whose bill is not what its usage costs by its price version, and what it should be.

    What a call owes is charged or, where nobody paid, absorbed. It is its cost, or all that was
    held where the cost is more and the table of who pays ends there. `ids`: of these calls only.
    """
    prices = _Prices(conn)
    for rows in _pages(conn) if ids is None else _named(conn, ids):
        for row in rows:
            why = _judged(prices, row)
            if why:
                yield row.id, why


class _Prices:
    """The price versions bills were made with, each read once."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.cost = lru_cache(maxsize=10_000)(self._cost)
        self._rates = lru_cache(maxsize=10_000)(self._read)

    def _read(self, version: int, discount: int) -> Rates | None:
        query = select(price_version.c.rates).where(price_version.c.version == version)
        found = self._conn.execute(query).scalar()
        return None if found is None else Rates(json.decode(found), discount)

    def _cost(self, usage: str, version: int, discount: int) -> int | None:
        """Micro-credits; None for a price version that is not there. Raises ValueError for one that is no price."""
        counts = json.decode(usage)
        if not counts:
            return 0
        rates = self._rates(version, discount)
        return None if rates is None else min(cost(counts, rates), AMOUNT_MAX)


def _pages(conn: Connection) -> Iterator[Sequence[Any]]:
    after = ""
    while rows := conn.execute(
        select(*_COLUMNS).where(call.c.id > after).order_by(call.c.id).limit(PAGE)
    ).all():
        after = rows[-1].id
        yield rows


def _named(conn: Connection, ids: Sequence[str]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(ids), NAMED):
        yield conn.execute(select(*_COLUMNS).where(call.c.id.in_(ids[at : at + NAMED]))).all()


def _judged(prices: _Prices, row: Any) -> str:
    owed = row.charged + row.absorbed
    try:
        due = prices.cost(row.usage, row.price_version, row.discount)
    except (ValueError, TypeError) as error:
        return f"its usage or price version {row.price_version} cannot be read: {error}"
    if due is None:
        return f"billed {owed} by price version {row.price_version}, which does not exist"
    if owed in (due, min(due, row.held)):
        return ""
    return f"billed {owed}, its usage costs {due} by price version {row.price_version} (held {row.held})"
