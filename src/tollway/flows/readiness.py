"""Whether this process should be sent calls, and if not, why."""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import Connection, select

from tollway.flows.gate import Gate
from tollway.store import schema
from tollway.store.base import StoreError

PATIENCE_S: Final = 1.0


async def unready(gate: Gate) -> list[str]:
    """Reasons not to send calls here; empty when all is well."""
    reasons = []
    if gate.draining:
        reasons.append("the process is stopping")
    try:
        await asyncio.wait_for(gate.store.read(_probe), PATIENCE_S)
    except (StoreError, OSError, TimeoutError):
        reasons.append("the database does not answer")
    return reasons


def _probe(conn: Connection) -> None:
    conn.execute(select(schema.revision.c.number).limit(1)).first()
