"""The store around the ledger: reading and writing, watching, owners, recovery, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text
from tests.support.ledger import (
    balance_of,
    books_balance,
    hold_of,
    new_id,
    priced,
    rows_of,
    settlement_of,
    wallet_of,
)

from tollway.config import Settings
from tollway.store import owners, schema
from tollway.store.base import (
    Balance,
    IllegalOperation,
    InsufficientFunds,
    LedgerUnavailable,
    Store,
    StoreError,
)
from tollway.store.factory import open_store

DEADLINE = 20


def add_account(conn: Connection, name: str) -> None:
    conn.execute(insert(schema.account).values(id=name, name=name, created_at=1))


def accounts(conn: Connection) -> set[str]:
    return set(conn.execute(select(schema.account.c.id)).scalars())


async def test_a_write_is_read_back_and_a_failed_one_leaves_nothing(store: Store) -> None:
    name = new_id()
    await store.write(lambda conn: add_account(conn, name))
    assert name in await store.read(accounts)

    def fails(conn: Connection) -> None:
        add_account(conn, name + "2")
        raise KeyError(name)

    with pytest.raises(KeyError):
        await store.write(fails)
    with pytest.raises(IllegalOperation):
        await store.write(lambda conn: add_account(conn, name))
    assert name + "2" not in await store.read(accounts)


async def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises((StoreError, Exception), match="(?i)read.?only"):
        await store.read(lambda conn: add_account(conn, new_id()))


async def test_concurrent_writes_lose_no_update(store: Store) -> None:
    name = new_id()
    await store.write(lambda conn: conn.execute(insert(schema.instance).values(name=name, value="0")))

    def more(conn: Connection) -> None:
        value = conn.execute(text("SELECT value FROM instance WHERE name = :n"), {"n": name}).scalar_one()
        conn.execute(
            text("UPDATE instance SET value = :v WHERE name = :n"), {"v": str(int(value) + 1), "n": name}
        )

    await asyncio.gather(*(store.write(more) for _ in range(8)))
    assert await rows_of(store, "SELECT value FROM instance WHERE name = :n", n=name) == [("8",)]


async def test_a_closed_store_says_so(settings: Settings) -> None:
    store = open_store(settings)
    with pytest.raises(LedgerUnavailable):
        await store.read(accounts)
    await store.open()
    await store.close()
    await store.close()
    for use in (store.read(accounts), store.write(accounts), store.ledger.hold(hold_of(5, 1))):
        with pytest.raises(LedgerUnavailable):
            await use


async def test_who_asks_while_the_store_closes_is_answered(settings: Settings) -> None:
    store = open_store(settings)
    await store.open()
    wallet = await wallet_of(store, 1000)
    asked: list[asyncio.Task[Any]] = []

    def ask() -> None:
        asked.append(asyncio.create_task(store.ledger.hold(hold_of(wallet, 1))))
        asked.append(asyncio.create_task(store.write(accounts)))
        asked.append(asyncio.create_task(store.read(accounts)))

    ask()
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    while not closing.done() and len(asked) < 100:
        ask()
        await asyncio.sleep(0)
    await closing
    ask()
    outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), DEADLINE)
    assert outcomes
    assert all(isinstance(one, Balance | InsufficientFunds | set | LedgerUnavailable) for one in outcomes), (
        outcomes
    )
    await closing


TOPICS: dict[str, tuple[str, list[str]]] = {
    "keys": (
        "keys",
        [
            "INSERT INTO account (id, name, created_at) VALUES ('{x}', '{x}', 1)",
            "UPDATE account SET status='suspended' WHERE id='{x}'",
            "INSERT INTO project (id, account_id, name, created_at) VALUES ('{x}', '{x}', 'p', 1)",
            "INSERT INTO api_key (id, account_id, project_id, name, digest, display, created_at) VALUES ('{x}', '{x}', '{x}', 'k', '{x}', 'd', 1)",
            "UPDATE api_key SET status='revoked' WHERE id='{x}'",
            "DELETE FROM api_key WHERE id='{x}'",
        ],
    ),
    "catalogue": (
        "catalogue",
        [
            "INSERT INTO channel (id, name, dialect, base_url, created_at) VALUES ('{x}', '{x}', 'd', 'u', 1)",
            "INSERT INTO model (id, created_at) VALUES ('{x}', 1)",
            "INSERT INTO price_version (model_id, rates, created_at) VALUES ('{x}', 'r', 1)",
            "INSERT INTO model_alias (alias, model_id, created_at) VALUES ('a{x}', '{x}', 1)",
            "INSERT INTO route (channel_id, model_id, upstream_model, created_at) VALUES ('{x}', '{x}', 'u', 1)",
            "UPDATE channel SET status='disabled' WHERE id='{x}'",
            "DELETE FROM route WHERE channel_id='{x}'",
            "INSERT INTO discount (scope, owner, hundredths, created_at) VALUES ('group', '{x}', 5, 1)",
            "UPDATE discount SET hundredths=6 WHERE owner='{x}'",
            "DELETE FROM discount WHERE owner='{x}'",
        ],
    ),
}


@pytest.mark.parametrize("topic", TOPICS)
async def test_each_change_of_keys_or_catalogue_is_told_and_nothing_else_is(store: Store, topic: str) -> None:
    told: list[frozenset[str]] = []
    await store.write(priced)
    store.watch(told.append)
    x = new_id()
    for n, statement in enumerate(TOPICS[topic][1], 1):
        sql = statement.format(x=x)
        if store.engine == "sqlite":
            sql = sql.replace(f"'k', '{x}'", f"'k', CAST('{x}' AS BLOB)")
        await store.write(lambda conn, sql=sql: conn.exec_driver_sql(sql))
        assert told == [frozenset({topic})] * n, statement
    await store.write(lambda conn: conn.execute(insert(schema.instance).values(name=x, value="v")))
    await wallet_of(store, 5)
    assert len(told) == len(TOPICS[topic][1])


@pytest.mark.postgres
@pytest.mark.parametrize("deaf", [False, True])
async def test_a_change_by_another_process_is_told(fresh: Callable[[str], Settings], deaf: bool) -> None:
    settings = fresh("postgresql")
    mine, other = open_store(settings), open_store(settings)
    await mine.open()
    await other.open()
    if deaf:
        # Without notifications the revisions are still looked at.
        await other.write(lambda conn: conn.exec_driver_sql("DROP TRIGGER revision_account ON account"))
        silent = "CREATE FUNCTION silent() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE revision SET number = number + 1 WHERE topic = ''keys''; RETURN NULL; END'"
        await other.write(lambda conn: conn.exec_driver_sql(silent))
        await other.write(
            lambda conn: conn.exec_driver_sql(
                "CREATE TRIGGER revision_account AFTER INSERT ON account FOR EACH STATEMENT EXECUTE FUNCTION silent()"
            )
        )
    told = asyncio.Event()
    mine.watch(lambda topics: told.set() if topics == {"keys"} else None)
    await other.write(lambda conn: add_account(conn, new_id()))
    await asyncio.wait_for(told.wait(), DEADLINE)
    await mine.close()
    await other.close()


# -- owners and recovery ---------------------------------------------------------------------------


async def abandoned(store: Store, owner: str, worker: dict[str, Any] | None) -> tuple[int, str]:
    """A hold of another owner, whose row in `worker` has these times."""
    wallet = await wallet_of(store, 100)
    request = hold_of(wallet, 40)

    def write(conn: Connection) -> None:
        conn.execute(
            insert(schema.hold).values(
                id=request.id, wallet=wallet, amount=40, owner=owner, expires_at=1, created_at=1
            )
        )
        if worker is not None:
            conn.execute(insert(schema.worker).values(id=owner, host="h", pid=1, started_at=1, **worker))

    await store.write(write)
    return wallet, request.id


async def database_now(store: Store) -> int:
    if store.engine == "sqlite":
        return 10**12
    return int((await rows_of(store, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))[0][0])


@pytest.mark.parametrize("fate", ["unknown", "silent", "stopped"])
async def test_holds_of_the_dead_are_released_once_and_uncharged(store: Store, fate: str) -> None:
    now = await database_now(store)
    worker = {
        "unknown": None,
        "silent": {"heartbeat_at": now - owners.STALE_MS - 1000},
        "stopped": {"heartbeat_at": now, "stopped_at": now},
    }[fate]
    wallet, hold_id = await abandoned(store, new_id(), worker)
    mine = hold_of(wallet, 10)
    await store.ledger.hold(mine)
    assert await store.recover(12345) >= 1
    assert await store.recover(12345) == 0
    found = await rows_of(
        store, "SELECT state, settled, reason, closed_at FROM hold WHERE id = :i", i=hold_id
    )
    assert found == [("released", None, "owner_dead", 12345)]
    assert await balance_of(store, wallet) == Balance(100, 0, 10)
    await store.ledger.settle(settlement_of(mine.id, None))
    await books_balance(store)


@pytest.mark.postgres
async def test_holds_of_the_living_are_left_alone(fresh: Callable[[str], Settings]) -> None:
    settings = fresh("postgresql")
    mine, other = open_store(settings), open_store(settings)
    await mine.open()
    await other.open()
    wallet = await wallet_of(mine, 100)
    request = hold_of(wallet, 40)
    await mine.ledger.hold(request)
    far_ahead = 10**15
    assert await other.recover(far_ahead) == 0, "a host's clock must not decide who is dead"
    await mine.close()
    assert await other.recover(5) == 1
    late = await other.ledger.settle(settlement_of(request.id, 30))
    assert (late.first, late.charged, late.absorbed) == (False, 0, 30)
    await books_balance(other)
    await other.close()


async def test_a_heartbeat_renews_the_claim(store: Store) -> None:
    before = await rows_of(store, "SELECT sum(heartbeat_at) FROM worker")
    await store.write(lambda conn: conn.exec_driver_sql("UPDATE worker SET heartbeat_at = 1"))
    await store.heartbeat(10**12)
    after = await rows_of(store, "SELECT max(heartbeat_at) FROM worker")
    assert before and after[0][0] > 10**11


async def test_a_sweep_is_done_in_parts_and_complete(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "SWEEP_MAX", 7)
    wallet = await wallet_of(store, 1000)
    rows = [
        {"id": new_id(), "wallet": wallet, "amount": 10, "owner": "ghost", "expires_at": 1, "created_at": 1}
        for _ in range(30)
    ]
    await store.write(lambda conn: conn.execute(insert(schema.hold), rows))
    assert await store.recover(5) >= 30
    assert await store.recover(5) == 0
    assert await balance_of(store, wallet) == Balance(1000, 0, 0)
    await books_balance(store)
