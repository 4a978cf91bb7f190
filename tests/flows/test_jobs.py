"""Jobs over a real store: rolled up, recounted, deleted, sealed, proven; run once at a time, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.store.test_verify import unguarded
from tests.support.jobs import HOUR, NOW, Clock, runner_of
from tests.support.ledger import books_balance, hold_of, rows_of, settlement_of, wallet_of

from tollway.config import Settings
from tollway.flows.jobs import maintenance
from tollway.flows.jobs.registry import Job
from tollway.flows.jobs.scheduler import Scheduler
from tollway.flows.jobs.work import Outcome, Work
from tollway.store import jobs, marks, schema
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.rollups import fill, usage
from tollway.store.rollups.sums import DAY_MS


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        settings = Settings(data=str(tmp_path / "data"))
    else:
        settings = Settings(database_url=request.getfixturevalue("postgres_database")())
    found = open_store(settings)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(Settings(data=str(tmp_path / "lite")))
    await found.open()
    yield found
    await found.close()


async def one_call(store: Store, wallet: int, at: int, amount: int = 10) -> str:
    owner = (await rows_of(store, "SELECT owner FROM ledger_account WHERE id = :w", w=wallet))[0][0]
    request = hold_of(wallet, 100, created_at=at)
    await store.ledger.hold(request)
    facts = {"account_id": owner, "created_at": at, "finished_at": at}
    await store.ledger.settle(settlement_of(request.id, amount, tries=2, **facts))
    return request.id


async def used(store: Store) -> tuple[int, int]:
    found = await store.read(partial(usage, since=0, until=NOW + 400 * DAY_MS))
    return (found[0].calls, found[0].charged) if found else (0, 0)


# -- maintenance -------------------------------------------------------------------------------------


async def test_maintenance_rolls_up_what_is_there_and_then_deletes_what_is_old(store: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(store, clock)
    wallet = await wallet_of(store, 10**6)
    for days in (100, 40, 40, 20, 0):
        await one_call(store, wallet, NOW - days * DAY_MS - 1)
    for _ in range(3):  # on PostgreSQL an entry is sealed once what was under way beside it has ended
        assert (await runner.run("verify-ledger")).status == "ok"
    report = await runner.run("scheduled-maintenance")
    assert report.status == "ok", report
    assert report.details["rows"] == 4
    assert report.details["calls_deleted"] == 3
    assert await rows_of(store, "SELECT count(*) FROM call") == [(2,)]
    assert await rows_of(store, "SELECT count(*) FROM attempt") == [(4,)]
    assert await used(store) == (5, 50)
    again = await runner.run("scheduled-maintenance")
    assert again.processed == 0
    assert await used(store) == (5, 50)
    clock.now += 15 * DAY_MS
    assert (await runner.run("scheduled-maintenance")).details["calls_deleted"] == 1
    assert await used(store) == (5, 50)
    await books_balance(store)
    assert (await runner.run("verify-ledger")).status == "ok"


async def test_without_a_retention_nothing_is_deleted(lite: Store) -> None:
    runner = runner_of(lite, Clock(NOW), settings=Settings(call_days=0, job_run_days=0))
    await one_call(lite, await wallet_of(lite, 100), NOW - 1000 * DAY_MS)
    await runner.run("verify-ledger")
    report = await runner.run("scheduled-maintenance")
    assert (report.details["calls_deleted"], report.details["runs_deleted"]) == (0, 0)
    assert await rows_of(lite, "SELECT count(*) FROM call") == [(1,)]


async def test_a_call_settled_long_after_its_quarter_is_found_within_the_hour(lite: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(lite, clock)
    wallet = await wallet_of(lite, 1000)
    await one_call(lite, wallet, NOW - 5 * HOUR)
    await runner.run("scheduled-maintenance")
    await one_call(lite, wallet, NOW - 5 * HOUR + 1)
    clock.now += 60_000
    await runner.run("scheduled-maintenance", asked=False)
    assert await used(lite) == (1, 10), "it is not due for a recount, and asked for nothing"
    clock.now += HOUR
    assert (await runner.run("scheduled-maintenance", asked=False)).details["rows"] == 1
    assert await used(lite) == (2, 20)
    # One that is older still is found by the recount of everything, once a day.
    await one_call(lite, wallet, NOW - 20 * DAY_MS)
    clock.now += HOUR + 1
    await runner.run("scheduled-maintenance", asked=False)
    assert await used(lite) == (2, 20)
    clock.now += DAY_MS
    await runner.run("scheduled-maintenance", asked=False)
    assert await used(lite) == (3, 30)


async def test_quarters_that_may_still_change_are_computed_again(lite: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(lite, clock)
    wallet = await wallet_of(lite, 1000)
    for n in range(4):
        await one_call(lite, wallet, NOW - 60_000 * n)
        await runner.run("scheduled-maintenance", asked=False)
        assert await used(lite) == (n + 1, 10 * (n + 1))
        clock.now += 120_000


async def test_what_just_finished_on_a_busy_gateway_is_left_to_the_next_run(
    lite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BUSY", 3)
    clock = Clock(NOW)
    runner = runner_of(lite, clock)
    wallet = await wallet_of(lite, 1000)
    for n in range(5):
        await one_call(lite, wallet, NOW - n)
    await one_call(lite, wallet, NOW - 20_000)
    await runner.run("scheduled-maintenance", asked=False)
    assert await used(lite) == (1, 10)
    # One of the same time is settled only now: no quarter has to be computed again for it.
    await one_call(lite, wallet, NOW - 5)
    monkeypatch.setattr(fill, "differing", None)
    clock.now += 70_000
    await runner.run("scheduled-maintenance", asked=False)
    assert await used(lite) == (7, 70)


async def test_spans_that_are_over_are_built_and_corrected_by_what_comes_later(store: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(store, clock, settings=Settings(call_days=0))
    wallet = await wallet_of(store, 1000)
    for days in (70, 40, 40, 3):
        await one_call(store, wallet, NOW - days * DAY_MS)
    await runner.run("scheduled-maintenance")
    query = "SELECT span, sum(calls) FROM rollup_sum WHERE grain = 'key_model' GROUP BY span ORDER BY span"
    assert await rows_of(store, query) == [("day", 4), ("hour", 4), ("month", 3), ("watch", 4), ("week", 3)]
    await one_call(store, wallet, NOW - 40 * DAY_MS + 1)
    await runner.run("scheduled-maintenance")
    assert await rows_of(store, query) == [("day", 5), ("hour", 5), ("month", 4), ("watch", 5), ("week", 4)]
    assert await used(store) == (5, 50)
    await books_balance(store)


async def test_old_runs_are_forgotten(lite: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(lite, clock)
    for _ in range(3):
        await runner.run("verify-ledger")
        clock.now += 1
    clock.now += 31 * DAY_MS
    assert (await runner.run("scheduled-maintenance")).details["runs_deleted"] == 2
    assert len(await lite.read(partial(jobs.history, name="verify-ledger"))) == 1


async def test_calls_go_on_while_much_is_deleted(lite: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = await wallet_of(lite, 10**6)
    for n in range(450):
        await one_call(lite, wallet, NOW - 60 * DAY_MS + n)
    runner = runner_of(lite, Clock(NOW))
    await runner.run("verify-ledger")
    at_pauses: list[int] = []

    async def pausing(seconds: float) -> None:
        assert seconds > 0
        at_pauses.append((await rows_of(lite, "SELECT count(*) FROM call"))[0][0])
        await one_call(lite, wallet, NOW)

    monkeypatch.setattr(maintenance, "pause", pausing)
    report = await runner.run("scheduled-maintenance")
    assert report.details["calls_deleted"] == 450
    assert len({count for count in at_pauses if count < 440}) >= 2, "deleted in several transactions"
    await books_balance(lite)


# -- the proof ---------------------------------------------------------------------------------------


async def test_a_broken_ledger_fails_the_run_and_is_remembered_until_it_is_mended(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(NOW)
    runner = runner_of(store, clock)
    wallet = await wallet_of(store, 1000)
    call = await one_call(store, wallet, NOW)
    assert (await runner.run("verify-ledger")).status == "ok"
    assert await store.read(partial(marks.value, topic=marks.BROKEN)) == 0
    assert await store.read(partial(marks.value, topic=marks.PROVEN)) == NOW
    table = schema.call
    change = update(table).where(table.c.id == call)
    await store.write(lambda conn: conn.execute(change.values(charged=9)))
    clock.now += 60_000
    unproven = await runner.run("verify-ledger", asked=False)
    assert unproven.status == "skipped" or "proof_ms" not in unproven.details
    report = await runner.run("verify-ledger")
    assert report.status == "failed"
    assert report.details["broken"] == ["I7", "I10", "I13"]
    assert "I7" in report.reason
    assert await store.read(partial(marks.value, topic=marks.BROKEN)) == clock.now
    assert [record.levelname for record in caplog.records if "breaks I7" in record.message] == ["ERROR"]
    await store.write(lambda conn: conn.execute(change.values(charged=10)))
    assert (await runner.run("verify-ledger")).status == "ok"
    assert await store.read(partial(marks.value, topic=marks.BROKEN)) == 0


async def test_in_time_the_ledger_is_sealed_every_run_and_proven_when_it_is_time(lite: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(lite, clock)
    wallet = await wallet_of(lite, 1000)
    proofs, heads = [], set()
    for _ in range(15):
        await one_call(lite, wallet, clock.now)
        report = await runner.run("verify-ledger", asked=False)
        proofs.append("proof_ms" in report.details)
        heads.add(report.details["head"])
        clock.now += 70_000
    assert proofs[0]
    assert 2 <= sum(proofs) <= 4
    assert len(heads) == 15
    assert await rows_of(lite, "SELECT count(*) FROM seal") == [(15,)]


async def test_what_is_sealed_cannot_be_changed_unseen(store: Store) -> None:
    runner = runner_of(store, Clock(NOW))
    wallet = await wallet_of(store, 1000)
    for _ in range(3):
        await one_call(store, wallet, NOW)
        await runner.run("verify-ledger")
    await store.write(
        partial(unguarded, statement="UPDATE entry SET note = 'nothing to see' WHERE kind = 'grant'")
    )
    report = await runner.run("verify-ledger")
    assert (report.status, report.details["broken"]) == ("failed", ["I11"])


@pytest.mark.postgres
async def test_a_number_that_was_taken_early_and_appears_late_is_waited_for(
    postgres_database: Callable[[], str],
) -> None:
    import asyncpg

    url = postgres_database()
    store = open_store(Settings(database_url=url))
    await store.open()
    runner = runner_of(store, Clock(NOW))
    wallet = await wallet_of(store, 1000)
    other = await asyncpg.connect(url)
    transaction = other.transaction()
    await transaction.start()
    late = "INSERT INTO entry (id, debit, credit, amount, kind, at) VALUES ('late', 1, $1, 5, 'topup', 1)"
    try:
        await other.execute(late, await other_wallet(store))
        await one_call(store, wallet, NOW)
        for _ in range(3):
            report = await runner.run("verify-ledger")
            assert report.status == "ok"
        early = await rows_of(
            store, "SELECT count(*) FROM entry e JOIN seal s ON e.seq <= s.last_seq WHERE e.id LIKE 's:%'"
        )
        assert early == [(0,)], "the entry behind the gap is not sealed"
        await transaction.commit()
    finally:
        await other.close()
    for _ in range(3):
        assert (await runner.run("verify-ledger")).status == "ok"
    assert await rows_of(store, "SELECT max(last_seq) = (SELECT max(seq) FROM entry) FROM seal") == [(True,)]
    await store.close()


async def other_wallet(store: Store) -> int:
    return await wallet_of(store, 0)


# -- runs --------------------------------------------------------------------------------------------


def made_of(run: Any, every_s: int = 60) -> dict[str, Job]:
    return {"j": Job("j", "A job", every_s, run)}


async def test_of_fifty_who_ask_at_once_one_runs_the_job(store: Store) -> None:
    begun, finish = [], asyncio.Event()

    async def work(one: Work) -> Outcome:
        begun.append(one)
        await finish.wait()
        return Outcome(processed=1, succeeded=1)

    clock = Clock(NOW)
    runners = [runner_of(store, clock, made_of(work)) for _ in range(5)]
    asking = [asyncio.create_task(runners[n % 5].run("j")) for n in range(50)]
    done, running = set(), set(asking)
    while len(running) > 1:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finish.set()
    reports = await asyncio.gather(*asking)
    assert len(begun) == 1
    assert sorted(one.status for one in reports) == ["ok"] + ["skipped"] * 49
    run_id = next(one.run_id for one in reports if one.status == "ok")
    assert {one.run_id for one in reports} == {run_id}
    assert len(await store.read(partial(jobs.history, name="j"))) == 1


async def test_what_a_job_raises_is_its_outcome_and_the_next_run_goes(
    lite: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(one: Work) -> Outcome:
        one.memo["runs"] = one.memo.get("runs", 0) + 1
        if one.memo["runs"] == 1:
            raise ValueError("out of luck")
        return Outcome(details={"runs": one.memo["runs"]})

    runner = runner_of(lite, Clock(NOW), made_of(work))
    failed = await runner.run("j")
    assert (failed.status, failed.reason) == ("failed", "ValueError: out of luck")
    assert (await runner.run("j")).details == {"runs": 2}
    runs = await lite.read(partial(jobs.history, name="j"))
    assert sorted((run.status, run.result.get("reason")) for run in runs) == [
        ("failed", "ValueError: out of luck"),
        ("ok", None),
    ]
    assert "the job j failed" in caplog.text


async def test_a_holder_that_lost_its_lease_writes_nothing_more(lite: Store) -> None:
    paused, resume = asyncio.Event(), asyncio.Event()

    async def work(one: Work) -> Outcome:
        if one.lease.token == 1:
            paused.set()
            await resume.wait()
        await one.write(partial(marks.put, topic=f"by {one.lease.token}", number=1))
        return Outcome(processed=1)

    clock = Clock(NOW)
    first = asyncio.create_task(runner_of(lite, clock, made_of(work)).run("j"))
    await paused.wait()
    clock.now += jobs.LEASE_MS + 1
    second = await runner_of(lite, clock, made_of(work)).run("j")
    assert second.status == "ok"
    resume.set()
    late = await first
    assert late.status == "failed"
    assert "lost" in late.reason
    assert await lite.read(partial(marks.value, topic="by 1")) == 0
    assert await lite.read(partial(marks.value, topic="by 2")) == 1
    statuses = {run.id: run.status for run in await lite.read(partial(jobs.history, name="j"))}
    assert statuses == {second.run_id: "ok", late.run_id: "failed"}


async def test_a_run_that_is_stopped_leaves_the_job_to_others_at_once(lite: Store) -> None:
    begun = asyncio.Event()

    async def work(one: Work) -> Outcome:
        if one.lease.token == 1:
            begun.set()
            await asyncio.Event().wait()
        return Outcome()

    clock = Clock(NOW)
    task = asyncio.create_task(runner_of(lite, clock, made_of(work)).run("j"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await runner_of(lite, clock, made_of(work)).run("j", asked=False)).status == "ok"


# -- the scheduler -----------------------------------------------------------------------------------


async def test_schedulers_of_two_processes_run_each_job_once_when_it_is_due(lite: Store) -> None:
    clock = Clock(NOW)
    runs: list[int] = []
    ran = asyncio.Event()

    async def work(one: Work) -> Outcome:
        runs.append(clock.now)
        ran.set()
        return Outcome()

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            ran.clear()
            await asyncio.wait_for(ran.wait(), 30)

    both = [Scheduler(runner_of(lite, clock, made_of(work)), look_s=0.01) for _ in range(2)]
    tasks = [asyncio.create_task(one.run()) for one in both]
    await until(lambda: len(runs) == 1)
    while (await lite.read(jobs.listed))[0].owner is not None:
        await asyncio.sleep(0)
    state = (await lite.read(jobs.listed))[0]
    assert NOW + 54_000 <= state.next_at <= NOW + 66_000
    clock.now = state.next_at
    await until(lambda: len(runs) == 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert runs == [NOW, state.next_at]


async def test_a_stopped_scheduler_gives_up_what_it_runs(lite: Store) -> None:
    begun = asyncio.Event()

    async def work(one: Work) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        return Outcome()

    scheduler = asyncio.create_task(Scheduler(runner_of(lite, Clock(NOW), made_of(work)), look_s=0.01).run())
    await begun.wait()
    scheduler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scheduler
    assert (await lite.read(jobs.listed))[0].owner is None
    assert [run.result["reason"] for run in await lite.read(jobs.history)] == ["The process was stopped."]
