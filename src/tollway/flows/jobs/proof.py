"""Verify-ledger: new entries are sealed, and every invariant is proven again when it is time.

A proof reads the whole ledger, so it comes at most every ten minutes and takes at most a
hundredth of the time; sealing goes on in between. What it finds wrong is logged as an error and
keeps every process from being ready until a later proof finds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from tollway.flows.jobs.work import Outcome, Work
from tollway.store import jobs, marks, sealed
from tollway.store.verify import Report, verify

PROOF_MS: Final = 600_000
SHARE: Final = 100
"""A proof that took so long is followed by a pause of a hundred times that."""
SHOWN: Final = 5
"""Contradictions named in the log and in the run's result, for each invariant."""

log: Final = logging.getLogger("tollway.ledger")


async def prove(work: Work) -> Outcome:
    """Seal what is new; prove everything if it is time or somebody asked."""
    seals = await seal(work)
    head = await work.read(sealed.head)
    details: dict[str, Any] = {"seals": seals, "head": head.digest if head else None}
    if not work.asked and work.now() < work.memo.get("proof_at", 0):
        return Outcome(processed=seals, succeeded=seals, details=details)
    began = asyncio.get_running_loop().time()
    report = await _proven(work)
    took = int((asyncio.get_running_loop().time() - began) * 1000)
    work.memo["proof_at"] = work.now() + max(PROOF_MS, took * SHARE)
    await work.write(partial(_note, report=report, now=work.now()))
    return _outcome(report, {**details, "proof_ms": took})


async def _proven(work: Work) -> Report:
    stopped = threading.Event()
    try:
        return await work.read(partial(verify, stop=stopped.is_set))
    finally:
        # A query runs on its thread whether or not anybody waits for it, and must not delay the end.
        stopped.set()


async def seal(work: Work) -> int:
    """Seal the entries that can no longer get company; returns how many seals that made."""
    upto = await _horizon(work)
    made = 0
    while (one := await work.read(partial(sealed.drafted, upto=upto))) is not None:
        await work.write(partial(sealed.affix, one=one, now=work.now()))
        made += 1
    return made


async def _horizon(work: Work) -> int:
    """The last entry to seal: on PostgreSQL the one noted by an earlier run, once all that was under way then has ended."""

    def look(conn: Connection) -> tuple[int, int]:
        return sealed.horizon(conn), jobs.moment(conn, work.now())

    newest, now = await work.read(look)
    if work.tools.store.engine != "postgresql":
        return newest
    noted, at = work.memo.get("horizon", (0, 0))
    if not noted:
        work.memo["horizon"] = (newest, now)
        return 0
    if not await work.read(partial(sealed.settled_since, at=at)):
        return 0
    work.memo["horizon"] = (newest, now)
    return int(noted)


def _note(conn: Connection, report: Report, now: int) -> None:
    marks.put(conn, marks.BROKEN, 0 if report.ok else now)
    if report.ok:
        marks.put(conn, marks.PROVEN, now)


def _outcome(report: Report, details: dict[str, Any]) -> Outcome:
    wrong = [check for check in report.checks if not check.ok and not check.informational]
    for check in wrong:
        found = "; ".join(f"{one.id}: {one.found}" for one in check.differences[:SHOWN])
        log.error("the ledger breaks %s (%s) %d times: %s", check.name, check.title, check.wrong, found)
    names = ", ".join(check.name for check in wrong)
    return Outcome(
        processed=len(report.checks),
        succeeded=len(report.checks) - len(wrong),
        failed=len(wrong),
        ok=report.ok,
        why=f"The ledger breaks {names}; see tollway credits verify." if names else "",
        details={**details, "broken": [check.name for check in wrong]},
    )
