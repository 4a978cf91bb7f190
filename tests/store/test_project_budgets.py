"""Budgets that the keys of a project share, on both databases: the third bound of every hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.ledger import (
    balance_of,
    books,
    books_balance,
    hold_of,
    new_id,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.config import Settings
from tollway.store.base import IllegalOperation, InsufficientFunds, Store
from tollway.store.factory import open_store


async def bounds_of(store: Store, key: int, project: int) -> dict[str, int]:
    return {
        "budget": await store.ledger.budget(new_id(), "", key, 1),
        "project_budget": await store.ledger.budget(new_id(), "2026-11", project, 1),
    }


async def used(store: Store, account: int) -> tuple[int, int]:
    balance = await balance_of(store, account)
    return balance.debited, balance.held


async def test_a_call_counts_against_both_budgets(store: Store) -> None:
    wallet, bounds = await wallet_of(store, 100), await bounds_of(store, 50, 40)
    request = hold_of(wallet, 30, **bounds)
    await store.ledger.hold(request)
    assert [await used(store, account) for account in bounds.values()] == [(0, 30), (0, 30)]
    await store.ledger.settle(settlement_of(request.id, 12))
    assert [await used(store, account) for account in bounds.values()] == [(12, 0), (12, 0)]
    entries = "SELECT id, amount FROM entry WHERE hold_id = :id ORDER BY id"
    assert await rows_of(store, entries, id=request.id) == [
        (f"b:{request.id}", 12),
        (f"p:{request.id}", 12),
        (f"s:{request.id}", 12),
    ]
    await books_balance(store)


async def test_a_released_hold_gives_both_back(store: Store) -> None:
    wallet, bounds = await wallet_of(store, 100), await bounds_of(store, 50, 40)
    request = hold_of(wallet, 30, **bounds)
    await store.ledger.hold(request)
    await store.ledger.settle(settlement_of(request.id, None))
    assert [await used(store, account) for account in bounds.values()] == [(0, 0), (0, 0)]
    await books_balance(store)


@pytest.mark.parametrize(
    ("granted", "key", "project", "kind"),
    [(9, 10, 10, "wallet"), (10, 9, 10, "budget"), (10, 10, 9, "project"), (10, None, 9, "project")],
)
async def test_whichever_bound_is_short_is_named_and_nothing_is_held(
    store: Store, granted: int, key: int | None, project: int, kind: str
) -> None:
    wallet, bounds = await wallet_of(store, granted), await bounds_of(store, key or 0, project)
    if key is None:
        bounds["budget"] = None  # type: ignore[assignment]
    with pytest.raises(InsufficientFunds) as error:
        await store.ledger.hold(hold_of(wallet, 10, **bounds))
    assert (error.value.kind, error.value.balance.available) == (kind, 9)
    for account in (wallet, *bounds.values()):
        if account is not None:
            assert (await balance_of(store, account)).held == 0


async def test_overage_counts_against_both_or_is_absorbed(store: Store) -> None:
    wallet, bounds = await wallet_of(store, 100), await bounds_of(store, 50, 25)
    charged = []
    for _ in range(2):
        request = hold_of(wallet, 10, **bounds)
        await store.ledger.hold(request)
        found = await store.ledger.settle(settlement_of(request.id, 14))
        charged.append((found.charged, found.absorbed))
    # 14 of 25, then 10 of the 11 that are left and no more.
    assert charged == [(14, 0), (10, 4)]
    assert [await used(store, account) for account in bounds.values()] == [(24, 0), (24, 0)]
    await books_balance(store)


async def test_a_race_for_a_projects_budget_is_won_by_what_it_affords(store: Store) -> None:
    """Keys with budgets of their own and without share it; seven of sixty-four fit."""
    wallet, bounds = await wallet_of(store, 10_000), await bounds_of(store, 10_000, 75)
    kinds = [bounds, {"project_budget": bounds["project_budget"]}]
    found = await asyncio.gather(
        *(store.ledger.hold(hold_of(wallet, 10, **kinds[n % 2])) for n in range(64)), return_exceptions=True
    )
    refused = [one for one in found if isinstance(one, BaseException)]
    assert len(refused) == 57
    assert all(isinstance(one, InsufficientFunds) and one.kind == "project" for one in refused)
    assert (await used(store, bounds["project_budget"])) == (0, 70)


async def test_a_hold_keeps_its_project_budget(store: Store) -> None:
    wallet, bounds = await wallet_of(store, 100), await bounds_of(store, 50, 40)
    request = hold_of(wallet, 30, **bounds)
    await store.ledger.hold(request)
    for statement in (
        f"UPDATE hold SET project_budget = NULL WHERE id = '{request.id}'",
        "INSERT INTO hold (id, wallet, project_budget, amount, owner, expires_at, created_at) VALUES "  # noqa: ISC004
        f"('{new_id()}', {wallet}, {wallet}, 1, 'o', 1, 1)",
    ):
        with pytest.raises(IllegalOperation):
            await store.write(lambda conn, sql=statement: conn.exec_driver_sql(sql))
    await store.ledger.settle(settlement_of(request.id, 5))
    for kind, account in (
        ("p", bounds["budget"]),
        ("op", bounds["budget"]),
        ("ob", bounds["project_budget"]),
    ):
        forged = (
            "INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at) "
            f"VALUES ('{kind}:{request.id}', {account}, 1, 5, 'budget', '{request.id}', 1)"
        )
        with pytest.raises(IllegalOperation):
            await store.write(lambda conn, sql=forged: conn.exec_driver_sql(sql))
    await books_balance(store)


async def test_verify_finds_a_projects_budget_that_does_not_add_up(tmp_path: Path) -> None:
    """SQLite lets a counter be written by hand, which is what the proof is for; PostgreSQL refuses it."""
    store = open_store(Settings(data=str(tmp_path)))
    await store.open()
    wallet, bounds = await wallet_of(store, 100), await bounds_of(store, 50, 40)
    await store.ledger.hold(hold_of(wallet, 30, **bounds))
    spoil = f"UPDATE ledger_account SET held = 0 WHERE id = {bounds['project_budget']}"
    await store.write(lambda conn: conn.exec_driver_sql(spoil))
    wrong = {check.name: check for check in (await books(store)).checks if not check.ok}
    await store.close()
    assert str(bounds["project_budget"]) in {one.id for one in wrong["I3"].differences}
