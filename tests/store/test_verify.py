"""Verification finds every planted corruption and names it; sound books are found sound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection
from tests.store.test_retention import seal_all
from tests.store.test_rollups import build, fill
from tests.support.ledger import (
    books,
    books_balance,
    held_and_settled,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.config import Settings
from tollway.store import marks
from tollway.store.base import Store, Transfer
from tollway.store.factory import open_store
from tollway.store.retention import prune
from tollway.store.rollups.fill import RECOUNTED_MS, add_refunds
from tollway.store.rollups.sums import QUARTER_MS
from tollway.store.verify import DIFFERENCES_MAX, Report, Stopped, verify

# What is done to the tables with their triggers off, and which checks must then fail. {w} is a
# wallet, {b} a budget; {closed} was held at 100 and settled at 60 in both, with 10 refunded;
# {over} was settled beyond its hold; {lost} was partly absorbed; {open} is open.
CORRUPTIONS = {
    "a credit from nowhere": (
        "UPDATE ledger_account SET credited = credited + 5 WHERE id = {w}",
        {"I1", "I3"},
    ),
    "spending hidden": ("UPDATE ledger_account SET debited = debited - 5 WHERE id = {w}", {"I1", "I3"}),
    "a hold leaked": ("UPDATE ledger_account SET held = held + 5 WHERE id = {w}", {"I3"}),
    "a hold freed": ("UPDATE ledger_account SET held = 0 WHERE id = {w}", {"I3"}),
    "counters of revenue": ("UPDATE ledger_account SET credited = 5 WHERE id = 2", {"I1", "I3"}),
    "an entry gone": ("DELETE FROM entry WHERE id = 's:{closed}'", {"I1", "I3", "I4", "I7", "I13"}),
    "an entry changed": (
        "UPDATE entry SET amount = 59 WHERE id = 's:{closed}'",
        {"I1", "I3", "I4", "I7", "I13"},
    ),
    "an entry turned": (
        "UPDATE entry SET debit = credit, credit = debit WHERE id = 's:{closed}'",
        {"I1", "I3", "I4", "I6"},
    ),
    "an entry of no hold": ("UPDATE entry SET hold_id = NULL WHERE id = 'o:{over}'", {"I4", "I6", "I7"}),
    "a budget entry gone": ("DELETE FROM entry WHERE id = 'b:{closed}'", {"I1", "I3", "I4"}),
    "a loss forgotten": ("DELETE FROM entry WHERE id = 'a:{lost}'", {"I7", "I13"}),
    "a hold reopened": (
        "UPDATE hold SET state = 'held', settled = NULL, closed_at = NULL, refunded = 0 WHERE id = '{closed}'",
        {"I3", "I4", "I5", "I7"},
    ),
    "more refunded than was charged beyond the hold": (
        "UPDATE hold SET refunded = settled, refunded_over = 6 WHERE id = '{over}'",
        {"I5"},
    ),
    "a settlement lowered": ("UPDATE hold SET settled = 50 WHERE id = '{closed}'", {"I4"}),
    "a refund invented": ("UPDATE hold SET refunded = 20 WHERE id = '{closed}'", {"I5"}),
    "a refund forgotten": ("UPDATE hold SET refunded = 0 WHERE id = '{closed}'", {"I5"}),
    "a call gone": ("DELETE FROM call WHERE id = '{closed}'", {"I7", "I13"}),
    "a call that says less": ("UPDATE call SET charged = 1 WHERE id = '{closed}'", {"I7", "I10", "I13"}),
    "a call that says it lost less": (
        "UPDATE call SET absorbed = 0 WHERE id = '{lost}'",
        {"I7", "I10", "I13"},
    ),
    "a call of an open hold": (
        "UPDATE call SET id = '{open}', charged = 0 WHERE id = '{closed}'",
        {"I7", "I12", "I13"},
    ),
    "an owner forgotten": ("DELETE FROM worker", {"I8"}),
    "a price raised afterwards": (
        """UPDATE price_version SET rates = '{{"output": 2000000}}' WHERE version = 1000000""",
        {"I10"},
    ),
    "a price version gone": ("DELETE FROM price_version WHERE version = 1000000", {"I10"}),
    "a price that is none": ("UPDATE price_version SET rates = '[]' WHERE version = 1000000", {"I10"}),
    "usage changed": ("""UPDATE call SET usage = '{{"output": 61}}' WHERE id = '{closed}'""", {"I10"}),
    "usage forgotten": ("UPDATE call SET usage = '{{}}' WHERE id = '{closed}'", {"I10"}),
    "a discount invented": ("UPDATE call SET discount = 5000 WHERE id = '{closed}'", {"I10"}),
    "a sealed entry's note changed": ("UPDATE entry SET note = 'x' WHERE id = 's:{gone}'", {"I11"}),
    "a sealed entry's time changed": ("UPDATE entry SET at = at + 1 WHERE id = 's:{gone}'", {"I11"}),
    "a sealed entry's id changed": ("UPDATE entry SET id = 'x' WHERE kind = 'grant'", {"I11"}),
    "a seal changed": ("UPDATE seal SET amount = amount + 1 WHERE n = 1", {"I11"}),
    "a seal written anew": ("UPDATE seal SET digest = previous WHERE n = 1", {"I11"}),
    "a seal gone": ("DELETE FROM seal WHERE n = 1", {"I11"}),
    "a seal over more than there was": ("UPDATE seal SET last_seq = last_seq + 1 WHERE n = 2", {"I11"}),
    "an attempt's cost changed": (
        "UPDATE attempt SET cost = 4 WHERE call_id = '{closed}' AND n = 2",
        {"I12"},
    ),
    "what deleted calls were charged lowered": (
        "UPDATE rollup SET charged = charged - 1 WHERE kept = 1 AND calls = 1",
        {"I13"},
    ),
    "a deleted call moved to another account": (
        "UPDATE rollup_place SET account_id = 'other' WHERE id = (SELECT place FROM rollup WHERE kept = 1 AND calls = 1)",
        {"I13"},
    ),
    "a rollup that counts less": ("UPDATE rollup SET calls = calls - 1 WHERE kept = 0", {"I13"}),
    "a rollup that earned less": ("UPDATE rollup SET charged = charged - 1 WHERE kept = 0", {"I13"}),
    "a rollup gone": ("DELETE FROM rollup WHERE kept = 0", {"I13"}),
    "a month's revenue raised": ("UPDATE rollup_sum SET charged = 999 WHERE span = 'month'", {"I13"}),
    "a day's tokens lowered": ("UPDATE rollup_sum SET tokens_out = 0 WHERE span = 'day'", {"I13"}),
    "the days of a grain gone": ("DELETE FROM rollup_sum WHERE span = 'day' AND grain = 'key'", {"I13"}),
    "a refund rolled up twice": ("UPDATE rollup SET refunded = 2 * refunded WHERE kept = 1", {"I13"}),
    "a refund's mark gone": ("DELETE FROM rolled_refund", {"I13"}),
}
INFORMING = {"I8", "I12"}


async def world(store: Store) -> dict[str, object]:
    wallet = await wallet_of(store, 1000)
    names: dict[str, object] = {"w": wallet, "gone": await deleted(store, wallet)}
    budget = names["b"] = await store.ledger.budget(new_id(), "", 500, 1)
    for name, held, charged in (("closed", 100, 60), ("over", 10, 15)):
        request = hold_of(wallet, held, budget=budget)
        await store.ledger.hold(request)
        await store.ledger.settle(settlement_of(request.id, charged, tries=2))
        names[name] = request.id
    refund = Transfer(
        id=new_id(), kind="refund", wallet=wallet, amount=10, at=1, hold_id=str(names["closed"])
    )
    await store.ledger.transfer(refund)
    names["lost"], settled = await held_and_settled(store, wallet, 10, 10**6)
    assert settled.absorbed == 10**6 - 10
    request = hold_of(wallet, 5)
    await store.ledger.hold(request)
    names["open"] = request.id
    await store.write(partial(fill, since=0, until=QUARTER_MS))
    await store.write(partial(add_refunds, since=0, most=10))
    await store.write(partial(marks.advance, topic=marks.ROLLED, number=16 * RECOUNTED_MS))
    await store.write(build)
    return names


async def deleted(store: Store, wallet: int) -> str:
    """A call that is rolled up, sealed and deleted; its hold and entry stay."""
    owner = (await rows_of(store, "SELECT owner FROM ledger_account WHERE id = :wallet", wallet=wallet))[0][0]
    await seal_all(store)
    request = hold_of(wallet, 100)
    await store.ledger.hold(request)
    await store.ledger.settle(settlement_of(request.id, 30, account_id=owner, finished_at=1500))
    await seal_all(store)
    await store.write(partial(fill, since=0, until=QUARTER_MS))
    await store.write(partial(marks.advance, topic=marks.ROLLED, number=1600))
    assert await store.write(partial(prune, before=1600)) == 1
    return request.id


def unguarded(conn: Connection, statement: str) -> None:
    """Run a statement as somebody would who has turned the database's guards off."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        conn.exec_driver_sql("ALTER TABLE hold DROP CONSTRAINT IF EXISTS ck_hold_refunded")
    else:
        for row in conn.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'trigger'").all():
            conn.exec_driver_sql(f"DROP TRIGGER {row[0]}")
        conn.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        conn.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    conn.exec_driver_sql(statement)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.ok}


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_each_planted_corruption_is_found(engine: str, fresh: Callable[[str], Settings]) -> None:
    store = open_store(fresh(engine))
    await store.open()
    names = await world(store)
    await books_balance(store)
    assert failed(await books(store)) == set()

    class Undo(Exception):
        report: Report

    for what, (statement, expected) in CORRUPTIONS.items():

        def corrupt(conn: Connection, sql: str = statement.format(**names)) -> None:
            unguarded(conn, sql)
            undo = Undo()
            undo.report = verify(conn)
            raise undo

        with pytest.raises(Undo) as undone:
            await store.write(corrupt)
        report = undone.value.report
        assert failed(report) == expected, what
        assert report.ok == (expected <= INFORMING), what
        ids = {one.id for check in report.checks for one in check.differences}
        assert ids <= {
            *map(str, names.values()),
            *(f"{p}:{names[k]}" for p in "sboa" for k in ("closed", "over", "lost", "gone")),
            "all accounts",
            "2",
        } | {
            row.id
            for check in report.checks
            if check.name in ("I4", "I6", "I11", "I13")
            for row in check.differences
        }
        assert all(one.found for check in report.checks for one in check.differences), what
    await books_balance(store)
    await store.close()


async def test_a_proof_can_be_stopped_between_two_invariants(store: Store) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        await store.read(partial(verify, stop=lambda: next(asked)))
    assert next(asked, "none") == "none", "it was asked before each and stopped at the third"


async def test_a_report_counts_what_it_looked_at_and_bounds_what_it_lists(store: Store) -> None:
    before = {check.name: check.rows for check in (await books(store)).checks}
    wallet = await wallet_of(store, 10**6)
    for _ in range(3):
        await held_and_settled(store, wallet, 10, 5)
    after = {check.name: check.rows for check in (await books(store)).checks}
    assert {name: after[name] - before[name] for name in after} == {
        "I1": 1, "I2": 1, "I3": 1, "I4": 3, "I5": 3, "I6": 4, "I7": 3, "I8": 0, "I10": 3, "I11": 0, "I12": 3, "I13": 0,
    }  # fmt: skip

    def many(conn: Connection) -> None:
        rows = ", ".join(
            f"('many{wallet}-{n}', {wallet}, 1, 'ghost', 1, 1)" for n in range(DIFFERENCES_MAX + 20)
        )
        conn.exec_driver_sql(
            f"INSERT INTO hold (id, wallet, amount, owner, expires_at, created_at) VALUES {rows}"
        )

    await store.write(many)
    check = next(one for one in (await books(store)).checks if one.name == "I8")
    assert (check.name, check.informational, len(check.differences)) == ("I8", True, DIFFERENCES_MAX)
    assert check.wrong >= DIFFERENCES_MAX + 20
    await store.recover(1)
