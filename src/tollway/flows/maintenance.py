"""What a process does for the books while it serves: says that it lives, and sweeps up after those that do not."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tollway.flows.clock import now_ms
from tollway.store.base import Store, StoreError

HEARTBEAT_S: Final = 5.0
SWEEP_EVERY: Final = 2
"""Sweeps come with every second heartbeat."""

log: Final = logging.getLogger("tollway.maintenance")


async def keep_books(store: Store) -> None:
    """Renew our claim on our holds and release those of the dead, until cancelled."""
    beats = 0
    while True:
        try:
            await store.heartbeat(now_ms())
            if beats % SWEEP_EVERY == 0:
                await sweep(store)
        except (StoreError, OSError) as error:
            log.warning("the database could not be reached for the heartbeat: %s", error)
        beats += 1
        await asyncio.sleep(HEARTBEAT_S)


async def sweep(store: Store) -> int:
    """Release, uncharged, the holds of processes that died. Returns how many."""
    released = await store.recover(now_ms())
    if released:
        log.warning("released %d holds of processes that are gone; nothing was charged for them", released)
    return released
