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
from tollway.store.rollups import fill, spans
from tollway.store.rollups.sums import DAY_MS, QUARTER_MS, SPANS, Place, Sums, quarter, replace

PORTION: Final = 25
"""Rows of anything changed in one transaction, which is a few milliseconds."""
CALLS_MIN: Final = 1000
CALLS_MAX: Final = 4000
"""Calls summed in one transaction: the more, the less each costs, because they share rows."""
ROWS: Final = 2000
"""Rows of sums written in one transaction."""
WRITE_S: Final = 0.025
"""How long a transaction that sums or deletes calls may take: after a longer one, the next is half as large."""
PAUSE_S: Final = 0.002
LAG_MS: Final = 10_000
BUSY: Final = 200
"""So many calls in the last `LAG_MS` are summed by the next run, when none that finished among them can still come."""
PRUNED_MAX: Final = 200
"""Rows deleted in one transaction at most."""
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
    """Sum the calls that finished since the last run, build the spans that are over; returns how many rows changed."""
    now = work.now()
    complete = quarter(now - fill.SETTLED_MS)
    changed = await _sum_up(work, now)
    start = await work.read(partial(marks.value, topic=marks.ROLLED))
    summed = await work.read(partial(marks.value, topic=marks.SUMMED))
    changed += await _mend(work, start, summed)
    await work.write(partial(marks.advance, topic=marks.ROLLED, number=min(complete, summed)))
    await build(work)
    return changed


async def _sum_up(work: Work, now: int) -> int:
    busy = await work.read(partial(fill.finished, since=now - LAG_MS, until=now + 1)) > BUSY
    horizon = now - LAG_MS if busy else now + 1
    start = await work.read(partial(marks.value, topic=marks.SUMMED))
    changed, size = 0, CALLS_MIN
    while start < horizon:
        start = await work.read(partial(fill.pending, most=size, until=horizon))
        async with _breathing() as took:
            changed += await work.write(partial(fill.sum_up, until=start))
        size = _next_size(size, took(), CALLS_MIN, CALLS_MAX)
    return changed


async def build(work: Work) -> int:
    """Build the spans that are over, shorter ones first; returns how many rows that made."""
    made = 0
    for span in reversed(SPANS):
        draft = await work.read(partial(spans.drafted, span=span))
        if draft is not None:
            await _cleared(work, span)
        while draft is not None:
            for at in range(0, len(draft.rows), ROWS):
                async with _breathing():
                    await work.write(partial(spans.keep, rows=draft.rows[at : at + ROWS]))
            await work.write(partial(spans.finish, draft=draft))
            made += len(draft.rows)
            draft = await work.read(partial(spans.drafted, span=span))
    return made


async def _cleared(work: Work, span: str) -> None:
    """Remove what a run left that did not come to its end."""
    clear = partial(spans.clear, span=span, most=ROWS)
    while await work.write(clear):
        await pause(PAUSE_S)


async def recount(work: Work) -> int:
    """Find quarters that got a call after they were taken for complete; returns how many rows changed."""
    now = work.now()
    whole = work.asked or now >= work.memo.get("whole_at", 0) + DAY_MS
    if not whole and now < await work.read(partial(marks.value, topic=marks.RECOUNTED)) + RECOUNT_MS:
        return 0
    until = await work.read(partial(marks.value, topic=marks.ROLLED))
    since = 0 if whole else max(0, quarter(until - fill.RECOUNTED_MS))
    changed = await _mend(work, since, until)
    await work.write(partial(marks.put, topic=marks.RECOUNTED, number=now))
    if whole:
        work.memo["whole_at"] = now
    return changed


async def _mend(work: Work, since: int, until: int) -> int:
    """Compute the quarters afresh whose rows count more or fewer calls than there are; returns how many rows changed."""
    changed = 0
    for bucket in await work.read(partial(fill.miscounted, since=since, until=until)):
        differing = partial(fill.differing, since=bucket, until=min(bucket + QUARTER_MS, until))
        rows: list[tuple[Place, Sums]] = sorted((await work.read(differing)).items())
        for at in range(0, len(rows), ROWS):
            async with _breathing():
                await work.write(partial(replace, rows=dict(rows[at : at + ROWS])))
        changed += len(rows)
    return changed


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
    return await _in_batches(work, lambda conn, most: retention.prune(conn, before, most))


async def expire(work: Work) -> int:
    """Delete kept responses whose conversation is over, for at most `PRUNE_S`; returns how many."""
    now = work.now()
    return await _in_batches(work, lambda conn, most: responses.expire(conn, now=now, limit=most))


async def _in_batches(work: Work, delete: Callable[[Connection, int], int]) -> int:
    """Delete up to so many at a time, in as large transactions as take no more than `WRITE_S`."""
    deadline = asyncio.get_running_loop().time() + PRUNE_S
    total, size = 0, PORTION
    while asyncio.get_running_loop().time() < deadline:
        async with _breathing() as took:
            gone = await work.write(partial(_some, delete=delete, most=size))
        total += gone
        if not gone:
            break
        size = _next_size(size, took(), PORTION, PRUNED_MAX)
    return total


def _some(conn: Connection, delete: Callable[[Connection, int], int], most: int) -> int:
    return delete(conn, most)


def _next_size(size: int, took: float, least: int, most: int) -> int:
    """How many to take next, when so many took so long."""
    if took > WRITE_S:
        return max(size // 2, least)
    return min(2 * size, most) if took < WRITE_S / 2 else size


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
