"""Whether this process should be sent calls, and if not, why."""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import Connection

from tollway.flows.gate import Gate
from tollway.store import marks
from tollway.store.base import StoreError

PATIENCE_S: Final = 1.0


async def unready(gate: Gate) -> list[str]:
    """Reasons not to send calls here; empty when all is well."""
    reasons = []
    if gate.draining:
        reasons.append("the process is stopping")
    try:
        broken = await asyncio.wait_for(gate.store.read(_probe), PATIENCE_S)
        if broken:
            reasons.append("the ledger does not balance; see tollway credits verify")
    except (StoreError, OSError, TimeoutError):
        reasons.append("the database does not answer")
    return reasons


def _probe(conn: Connection) -> bool:
    """Whether the ledger was found broken; any answer shows that the database has one."""
    return marks.value(conn, marks.BROKEN) > 0
