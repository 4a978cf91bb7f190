"""Leases of jobs: one holder at a time, fenced writes, runs that are written down."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy import update

from tollway.store import jobs, schema
from tollway.store.base import Store
from tollway.store.jobs import LEASE_MS, Lease, LeaseLost

NOW = 1_800_000_000_000


async def claimed(
    store: Store, name: str, owner: str, run_id: str, now: int = NOW, **more: bool
) -> Lease | None:
    return await store.write(partial(jobs.claim, name=name, owner=owner, run_id=run_id, now=now, **more))


async def lapse(store: Store, name: str) -> None:
    """Let a lease run out, on the database's clock or ours."""
    await store.write(
        lambda conn: conn.execute(update(schema.job).where(schema.job.c.name == name).values(lease_until=1))
    )


async def ended(store: Store, lease: Lease, pause_ms: int = 60_000, **memo: object) -> None:
    await store.write(
        partial(
            jobs.finish,
            lease=lease,
            status="ok",
            result={"processed": 1},
            memo=memo,
            now=NOW,
            pause_ms=pause_ms,
        )
    )


async def test_of_many_who_claim_at_once_one_wins(store: Store) -> None:
    found = await asyncio.gather(*(claimed(store, "one", f"w{n}", f"one-{n}") for n in range(12)))
    winners = [lease for lease in found if lease is not None]
    assert len(winners) == 1
    assert await store.read(partial(jobs.running, name="one")) == winners[0].run_id
    await ended(store, winners[0])
    assert await store.read(partial(jobs.running, name="one")) is None


async def test_a_job_is_due_when_its_pause_is_over_and_can_be_run_before(store: Store) -> None:
    names = ["pause-a", "pause-b"]
    assert await store.read(partial(jobs.due, names=names, now=NOW)) == names
    lease = await claimed(store, "pause-a", "w", "pa-1", due=True)
    assert lease is not None
    assert await store.read(partial(jobs.due, names=names, now=NOW)) == ["pause-b"]
    await ended(store, lease, n=3)
    assert await store.read(partial(jobs.due, names=names, now=NOW)) == ["pause-b"]
    assert await claimed(store, "pause-a", "w", "pa-2", due=True) is None
    again = await claimed(store, "pause-a", "w", "pa-3")
    assert again is not None
    assert again.memo == {"n": 3}
    assert again.token == lease.token + 1
    await ended(store, again, pause_ms=0)
    assert await store.read(partial(jobs.due, names=names, now=NOW)) == names


async def test_a_lapsed_lease_is_taken_over_and_its_holder_can_write_nothing(store: Store) -> None:
    first = await claimed(store, "fence", "w1", "f-1")
    assert first is not None
    assert await claimed(store, "fence", "w2", "f-2") is None
    await store.write(partial(jobs.renew, lease=first, now=NOW))
    await lapse(store, "fence")
    second = await claimed(store, "fence", "w2", "f-3")
    assert second is not None
    for step in (
        partial(jobs.renew, lease=first, now=NOW),
        partial(jobs.guard, lease=first),
        partial(jobs.finish, lease=first, status="ok", result={}, memo={"n": 1}, now=NOW, pause_ms=0),
    ):
        with pytest.raises(LeaseLost):
            await store.write(step)
    await store.write(partial(jobs.guard, lease=second))
    await ended(store, second, n=2)
    runs = await store.read(partial(jobs.history, name="fence"))
    assert {run.id: run.status for run in runs} == {"f-1": "failed", "f-3": "ok"}
    assert next(run for run in runs if run.id == "f-1").result == {
        "error": "its process died or lost its lease"
    }
    third = await claimed(store, "fence", "w1", "f-4")
    assert third is not None
    assert third.memo == {"n": 2}
    with pytest.raises(LeaseLost):
        await store.write(partial(jobs.guard, lease=second))


async def test_renewing_keeps_others_out(store: Store) -> None:
    lease = await claimed(store, "renew", "w1", "r-1")
    assert lease is not None
    if store.engine == "sqlite":
        await store.write(partial(jobs.renew, lease=lease, now=NOW + LEASE_MS - 1))
        assert await claimed(store, "renew", "w2", "r-2", now=NOW + LEASE_MS + 1) is None
        assert await claimed(store, "renew", "w2", "r-2", now=NOW + 2 * LEASE_MS) is not None
    else:
        before = next(one for one in await store.read(jobs.listed) if one.name == "renew").lease_until
        await lapse(store, "renew")
        await store.write(partial(jobs.renew, lease=lease, now=1))
        after = next(one for one in await store.read(jobs.listed) if one.name == "renew").lease_until
        assert after >= before, "the database's clock counts, not the caller's"


async def test_history_comes_in_pages_and_old_runs_are_forgotten_but_for_the_last(store: Store) -> None:
    for n in range(5):
        lease = await claimed(store, "past", "w", f"p-{n}")
        assert lease is not None
        await ended(store, lease)

        def older(conn, n=n) -> None:
            table = schema.job_run
            conn.execute(
                update(table).where(table.c.id == f"p-{n}").values(started_at=n + 1, finished_at=n + 2)
            )

        await store.write(older)
    now = time.time_ns() // 1_000_000
    old = partial(jobs.forget, now=now, age_ms=now - 10**9)
    page = await store.read(partial(jobs.history, name="past", limit=2))
    assert [run.id for run in page] == ["p-4", "p-3"]
    page = await store.read(partial(jobs.history, name="past", limit=9, before=page[-1].started_at))
    assert [run.id for run in page] == ["p-2", "p-1", "p-0"]
    assert await store.write(partial(old, most=2)) == 2
    assert await store.write(partial(old, most=10)) == 2
    assert [run.id for run in await store.read(partial(jobs.history, name="past"))] == ["p-4"]
