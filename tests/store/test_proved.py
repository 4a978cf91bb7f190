"""A proof of what is new finds what is wrong there, reads nothing that is old, and leaves that to whole proofs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from sqlalchemy import Connection
from tests.store.test_retention import seal_all
from tests.store.test_verify import CORRUPTIONS, failed, unguarded, world
from tests.support.jobs import HOUR, NOW, Clock, runner_of
from tests.support.ledger import books_balance, held_and_settled, new_id, wallet_of

from tollway.config import Settings
from tollway.store import marks, proved
from tollway.store.base import Store, Transfer
from tollway.store.factory import open_store
from tollway.store.proved import MARGIN_MS, WHOLE
from tollway.store.verify import Report, verify

COUNTERS = {
    "a credit from nowhere",
    "spending hidden",
    "a hold leaked",
    "a hold freed",
    "counters of revenue",
}
"""What is wrong with accounts, which every proof looks at."""
QUARTERS = {"a rollup that counts less", "a rollup that earned less", "a rollup gone"}
"""What is wrong with rollups of the quarters that a proof of what is new looks at."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, fresh: Callable[[str], Settings]) -> AsyncIterator[Store]:
    found = open_store(fresh(request.param))
    await found.open()
    yield found
    await found.close()


def point(conn: Connection, now: int) -> None:
    """Leave a point behind, as a proof of everything at `now` does."""
    report = verify(conn)
    assert report.ok, report
    proved.keep(conn, proved.carried(conn, WHOLE, now))


def recent(conn: Connection) -> Report:
    scope = proved.rest(conn)
    assert scope is not None
    return verify(conn, scope=scope)


class Undo(Exception):
    reports: tuple[Report, Report]


async def corrupted(store: Store, statement: str) -> tuple[Report, Report]:
    """What a proof of what is new and one of everything find after a statement, which is undone."""

    def corrupt(conn: Connection) -> None:
        unguarded(conn, statement)
        undo = Undo()
        undo.reports = recent(conn), verify(conn)
        raise undo

    with pytest.raises(Undo) as undone:
        await store.write(corrupt)
    return undone.value.reports


async def test_what_is_wrong_in_new_rows_is_found_without_reading_old_ones(store: Store) -> None:
    before = await wallet_of(store, 0)
    await store.ledger.transfer(Transfer(id=new_id(), kind="topup", wallet=before, amount=1000, at=1))
    await held_and_settled(store, before, 50, 20)
    await seal_all(store)
    await store.write(partial(point, now=MARGIN_MS + 1))
    names = await world(store)
    assert failed(await store.read(recent)) == set()
    for what, (statement, expected) in CORRUPTIONS.items():
        # The seal that was there before is the first, and not new.
        statement = statement.replace("WHERE n = 2", "WHERE n = 3").replace("WHERE n = 1", "WHERE n = 2")
        found = failed((await corrupted(store, statement.format(**names)))[0])
        if what in QUARTERS:
            assert found == {"I13"}, what
        else:
            assert found - {"I13"} == expected - {"I13"}, what


async def test_what_is_wrong_in_old_rows_is_found_by_a_proof_of_everything(store: Store) -> None:
    names = await world(store)
    await seal_all(store)
    await store.write(partial(point, now=10**12))
    report = await store.read(recent)
    assert failed(report) == set()
    looked = {check.name: check.rows for check in report.checks}
    assert {looked[name] for name in ("I4", "I5", "I6", "I7", "I10", "I11", "I12", "I13")} == {0}
    for what, (statement, expected) in CORRUPTIONS.items():
        new, whole = await corrupted(store, statement.format(**names))
        assert failed(whole) >= expected, what
        assert ("I11" in failed(whole)) or " FROM entry" not in statement, what
        assert (failed(new) & {"I1", "I3"} != set()) >= (what in COUNTERS), what


async def test_sums_are_carried_on_from_point_to_point(store: Store) -> None:
    wallet = await wallet_of(store, 1000)
    now = MARGIN_MS + 1
    await store.write(partial(point, now=now))
    for _ in range(3):
        call, _ = await held_and_settled(store, wallet, 50, 20)
        refund = Transfer(id=new_id(), kind="refund", wallet=wallet, amount=5, at=1, hold_id=call)
        await store.ledger.transfer(refund)
        await seal_all(store)

        def on(conn: Connection) -> None:
            scope = proved.rest(conn)
            assert scope is not None
            assert verify(conn, scope=scope).ok
            proved.keep(conn, proved.carried(conn, scope, now))

        await store.write(on)
    # A proof of everything finds the very same sums: nothing is left to change.
    left = await store.read(lambda conn: proved.carried(conn, WHOLE, now))
    assert left.sums == {}
    assert left.seq == await store.read(partial(marks.value, topic=marks.PROVED_SEQ)) > 0
    await books_balance(store)


async def test_a_point_whose_seal_is_gone_is_none(store: Store) -> None:
    await wallet_of(store, 1000)
    assert await store.read(proved.rest) is None
    await seal_all(store)
    await store.write(partial(point, now=10**12))
    assert await store.read(proved.rest) is not None

    def gone(conn: Connection) -> None:
        unguarded(conn, "DELETE FROM seal")

    await store.write(gone)
    assert await store.read(proved.rest) is None


async def test_the_job_proves_what_is_new_and_everything_once_a_day(store: Store) -> None:
    clock = Clock(NOW)
    runner = runner_of(store, clock)
    wallet = await wallet_of(store, 10**6)
    old, _ = await held_and_settled(store, wallet, 50, 20)

    async def run(*, asked: bool = False) -> tuple[str, bool | None]:
        # On PostgreSQL a job is due by the database's clock, which nobody moves.
        await store.write(lambda conn: conn.exec_driver_sql("UPDATE job SET next_at = 0"))
        report = await runner.run("verify-ledger", asked=asked)
        return report.status, report.details.get("whole")

    async def broken() -> bool:
        return await store.read(partial(marks.value, topic=marks.BROKEN)) > 0

    async def charge(call: str, amount: int) -> None:
        await store.write(
            lambda conn: conn.exec_driver_sql(f"UPDATE call SET charged = {amount} WHERE id = '{call}'")
        )

    for _ in range(3):  # on PostgreSQL what was written before one run is sealed by the next
        assert await run(asked=True) == ("ok", True)
        clock.now += HOUR
    assert await run() == ("ok", False)

    # What is old is looked at once a day; until everything is proven again, the books stay broken.
    await charge(old, 19)
    clock.now += HOUR
    assert await run() == ("ok", False)
    assert not await broken()
    clock.now += 24 * HOUR
    assert await run() == ("failed", True)
    clock.now += HOUR
    assert await run() == ("failed", True)
    assert await broken()
    await charge(old, 20)
    clock.now += HOUR
    assert await run() == ("ok", True)
    assert not await broken()

    # What is new is found at once.
    new, _ = await held_and_settled(store, wallet, 50, 20)
    await charge(new, 21)
    clock.now += HOUR
    assert await run() == ("failed", False)
    assert await broken()
