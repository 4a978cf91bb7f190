"""Scheduled maintenance: calls are rolled up first, then those past their retention are deleted.

Nothing here keeps calls from being served. What takes long is read, not written; what is written
are a few rows at a time, with a pause after each portion.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection

from tollway.flows.jobs.work import Outcome, Work
from tollway.store import jobs, marks, responses, retention
from tollway.store.rollups import fill
from tollway.store.rollups.sums import DAY_MS, QUARTER_MS, Place, Sums, quarter, replace

STEP_MAX_MS: Final = 2 * DAY_MS
ROWS: Final = 20_000
"""Rows that one reading of calls should come to; it covers less time where there are more."""
PORTION: Final = 25
"""Rows of anything changed in one transaction, which is a few milliseconds."""
ROLLED_MIN: Final = 1000
ROLLED_MAX: Final = 4000
"""Rows of the rollup changed in one transaction: the more, the less each costs, because they share sums."""
WRITE_S: Final = 0.1
"""How long such a transaction may take: after a longer one, the next is half as large."""
PAUSE_S: Final = 0.002
PRUNE_S: Final = 30.0
"""How long one run deletes at most; the next run goes on."""
RECOUNT_MS: Final = 3_600_000
"""How often recent quarters are recounted; all of them are once a day."""


async def maintain(work: Work) -> Outcome:
    """Roll up, recount where it is time, add refunds, delete what is old."""
    rows = await roll_up(work)
    rows += await recount(work)
    refunds = await _refunds(work)
    calls = await prune(work)
    kept = await expire(work)
    runs = await _forget(work)
    details = {
        "rows": rows,
        "refunds": refunds,
        "calls_deleted": calls,
        "responses_deleted": kept,
        "runs_deleted": runs,
        "rolled_until": await work.read(partial(marks.value, topic=marks.ROLLED)),
    }
    done = rows + refunds + calls + kept + runs
    return Outcome(processed=done, succeeded=done, details=details)


async def roll_up(work: Work) -> int:
    """Make every quarter that may still change agree with its calls; returns how many rows changed."""
    now = work.now()
    complete = quarter(now - fill.SETTLED_MS)
    start = await work.read(partial(marks.value, topic=marks.ROLLED))
    changed, step = 0, 4 * QUARTER_MS
    while (found := await work.read(partial(fill.first_after, since=start))) is not None and found <= now:
        until = min(found + step, quarter(now) + QUARTER_MS)
        rows = await _agree(work, found, until)
        changed += rows
        step = max(QUARTER_MS, quarter(step // 2)) if rows > ROWS else min(2 * step, STEP_MAX_MS)
        start = until
        if until <= complete:
            await work.write(partial(marks.advance, topic=marks.ROLLED, number=until))
    await work.write(partial(marks.advance, topic=marks.ROLLED, number=complete))
    return changed


async def recount(work: Work) -> int:
    """Find quarters that got a call after they were taken for complete; returns how many rows changed."""
    now = work.now()
    whole = work.asked or now >= work.memo.get("whole_at", 0) + DAY_MS
    if not whole and now < await work.read(partial(marks.value, topic=marks.RECOUNTED)) + RECOUNT_MS:
        return 0
    until = await work.read(partial(marks.value, topic=marks.ROLLED))
    since = 0 if whole else max(0, quarter(until - fill.RECOUNTED_MS))
    changed = 0
    for bucket in await work.read(partial(fill.miscounted, since=since, until=until)):
        changed += await _agree(work, bucket, bucket + QUARTER_MS)
    await work.write(partial(marks.put, topic=marks.RECOUNTED, number=now))
    if whole:
        work.memo["whole_at"] = now
    return changed


async def _agree(work: Work, since: int, until: int) -> int:
    differing: dict[Place, Sums] = await work.read(partial(fill.differing, since=since, until=until))
    rows, at, size = sorted(differing.items()), 0, ROLLED_MIN
    while at < len(rows):
        portion = dict(rows[at : at + size])
        async with _breathing() as took:
            await work.write(partial(replace, rows=portion))
        at += size
        size = min(2 * size, ROLLED_MAX) if took() < WRITE_S else max(size // 2, ROLLED_MIN)
    return len(rows)


async def _refunds(work: Work) -> int:
    total = 0
    while added := await work.write(partial(fill.add_refunds, since=0, most=PORTION)):
        total += added
    return total


async def prune(work: Work) -> int:
    """Delete calls past their retention, for at most `PRUNE_S`; returns how many."""
    days = work.tools.settings.call_days
    if not days:
        return 0
    before = work.now() - days * DAY_MS
    return await _in_batches(work, partial(retention.prune, before=before))


async def expire(work: Work) -> int:
    """Delete kept responses whose conversation is over, for at most `PRUNE_S`; returns how many."""
    return await _in_batches(work, partial(responses.expire, now=work.now(), limit=PORTION))


async def _in_batches(work: Work, delete: Callable[[Connection], int]) -> int:
    deadline = asyncio.get_running_loop().time() + PRUNE_S
    total = 0
    while asyncio.get_running_loop().time() < deadline:
        async with _breathing():
            gone = await work.write(delete)
        total += gone
        if not gone:
            break
    return total


@contextlib.asynccontextmanager
async def _breathing() -> AsyncIterator[Callable[[], float]]:
    """Pause after a write for as long as it took, so that at least half of the time is left to calls.

    Gives what tells how many seconds that was.
    """
    took = 0.0
    began = asyncio.get_running_loop().time()
    yield lambda: took
    took = asyncio.get_running_loop().time() - began
    await pause(max(PAUSE_S, took))


async def pause(seconds: float) -> None:
    """Leave the database to others."""
    await asyncio.sleep(seconds)


async def _forget(work: Work) -> int:
    days = work.tools.settings.job_run_days
    if not days:
        return 0
    return await work.write(partial(jobs.forget, now=work.now(), age_ms=days * DAY_MS, most=PORTION))
