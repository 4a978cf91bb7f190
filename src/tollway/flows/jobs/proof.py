"""Verify-ledger: new entries are sealed, and every invariant is proven of what is new, at times of everything.

What is new is proven every ten minutes at most, everything once a day at most, and each takes but
a small share of the time. Sealing goes on in between. What a proof finds wrong is logged as an
error and keeps every process from being ready until a later proof of everything finds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from tollway.flows.jobs.work import Outcome, Work
from tollway.store import jobs, marks, proved, sealed
from tollway.store.proved import WHOLE, Carried
from tollway.store.verify import Report, verify

PROOF_MS: Final = 600_000
SHARE: Final = 100
"""A proof of what is new that took so long is followed by a pause of a hundred times that."""
WHOLE_MS: Final = 86_400_000
WHOLE_SHARE: Final = 1000
"""A proof of everything that took so long is not made again for a thousand times that."""
QUICK_MS: Final = 1000
"""Who asks for a proof gets one of everything if the last took no longer."""
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
    report, left = await _proven(work, whole=await _wants_all(work))
    took = int((asyncio.get_running_loop().time() - began) * 1000)
    now = work.now()
    work.memo["proof_at"] = now + max(PROOF_MS, took * SHARE)
    if left.whole:
        work.memo |= {"whole_at": now + max(WHOLE_MS, took * WHOLE_SHARE), "whole_ms": took}
    await work.write(partial(_note, report=report, left=left, now=now))
    return _outcome(report, {**details, "proof_ms": took, "whole": left.whole})


async def _wants_all(work: Work) -> bool:
    """Whether it is time to prove everything. It always is while the books are broken: nothing less clears them."""
    if work.now() >= work.memo.get("whole_at", 0) or (
        work.asked and work.memo.get("whole_ms", 0) <= QUICK_MS
    ):
        return True
    return await work.read(partial(marks.value, topic=marks.BROKEN)) > 0


async def _proven(work: Work, *, whole: bool) -> tuple[Report, Carried]:
    stopped = threading.Event()

    def look(conn: Connection) -> tuple[Report, Carried]:
        scope = WHOLE if whole else proved.rest(conn) or WHOLE
        report = verify(conn, stopped.is_set, scope=scope)
        return report, proved.carried(conn, scope, work.now())

    try:
        return await work.read(look)
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


def _note(conn: Connection, report: Report, left: Carried, now: int) -> None:
    marks.put(conn, marks.BROKEN, 0 if report.ok else now)
    if report.ok:
        marks.put(conn, marks.PROVEN, now)
        if left.whole:
            marks.put(conn, marks.PROVED_WHOLE, now)
        proved.keep(conn, left)


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
