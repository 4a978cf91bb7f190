"""How fast usage, receipts and ledger pages are read with many calls on record: `python -m bench.rows`.

    python -m bench.rows [--calls 1000000] [--days 90] [--keys 200] [--folder DIR] [--asks 20]

Makes a SQLite database of so many calls, each with its hold, entry and attempt, spread over so many
days by a daily rhythm, rolls it up with the job's own code, and asks each question so many times
through the store's readers. With --folder the database is kept there and used again. Prints the
median, the 95th percentile and the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert
from tests.support.ledger import PRICE, priced

from tollway.config import Settings
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.store import calls, marks, schema, wallets
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.rollups import usage

GOAL_MS = 300
NOW = 1_800_000_000_000
DAY = 86_400_000
BATCH = 1_000_000
ACCOUNTS = 40


CALLS: Final = """
    WITH RECURSIVE number (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :end),
    chance AS (
      SELECT n, :begin + n * :step AS even, (n * 2654435761 % 4294967291) % :keys AS one, (n * 40503 % 2147483647) % :keys AS other,
        (n * 97531 % 65521) % 20 AS m, (n * 7919 % 32749) % 3 AS c, 1 + n % 5000 AS x
      FROM number
    ),
    made AS (
      SELECT n, min(one, other) AS k, m, c, x, CAST(even + 14400000 * sin(even / 86400000.0 * 6.283185307179586) AS INTEGER) AS at
      FROM chance
    ),
    made_call AS (SELECT printf('req_%011x%020x', at, n) AS id, k % :accounts AS a, k, m, c, x, at FROM made)
"""
"""Calls numbered from `first` to before `end`, nearly in the order of time: more by day than by night, as people are."""

TABLES: Final = (
    f"""
    INSERT INTO call (id, account_id, project_id, key_id, model, channel_id, upstream_model, dialect, route, stream, status,
      outcome, flags, usage, price_version, held, charged, absorbed, cost, created_at, finished_at, ip, user_agent)
    {CALLS} SELECT id, printf('acc_%030d', a), printf('prj_%030d', a), printf('key_%030d', k), 'model-' || m,
      printf('ch_%030d', c), 'm', 'openai_chat', '/v1/chat/completions', 1, 200, 'ok', '[]', '{{"output":' || x || '}}',
      {PRICE}, 9000, x, 0, 3, at - 900, at, '127.0.0.1', 'bench/1' FROM made_call
    """,
    f"""
    INSERT INTO hold (id, wallet, amount, state, settled, price_version, owner, expires_at, created_at, closed_at)
    {CALLS} SELECT id, 5 + a, 9000, 'settled', x, {PRICE}, 'bench', 0, at - 900, at FROM made_call
    """,
    f"""
    INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
    {CALLS} SELECT 's:' || id, 5 + a, 2, x, 'settle', id, at FROM made_call
    """,
    f"""
    INSERT INTO attempt (call_id, n, channel_id, upstream_model, status, latency_ms, cost, created_at)
    {CALLS} SELECT id, 1, printf('ch_%030d', c), 'm', 200, 5, 3, at - 900 FROM made_call
    """,
)
"""What the gateway leaves of a call."""


def write(raw: sqlite3.Connection, calls: int, days: int, keys: int) -> None:
    """The rows as the gateway leaves them, without its triggers' and indexes' work, which is not what is measured."""
    triggers = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    indexes = raw.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name IN ('call', 'hold', 'entry', 'attempt')"
    ).fetchall()
    for kind, those in (("TRIGGER", triggers), ("INDEX", indexes)):
        for name, _ in those:
            raw.execute(f"DROP {kind} {name}")
    for pragma in (
        "synchronous = OFF",
        "foreign_keys = OFF",
        "cache_size = -262144",
        "ignore_check_constraints = ON",
    ):
        raw.execute(f"PRAGMA {pragma}")
    raw.create_function("sin", 1, math.sin, deterministic=True)
    facts = {"begin": NOW - days * DAY, "step": days * DAY / calls, "keys": keys, "accounts": ACCOUNTS}
    for first in range(0, calls, BATCH):
        raw.execute("BEGIN")
        for table in TABLES:
            raw.execute(table, {**facts, "first": first, "end": min(first + BATCH, calls)})
        raw.execute("COMMIT")
    raw.execute(
        "UPDATE ledger_account SET overdraft = ?, debited = COALESCE(spent, 0)"
        " FROM (SELECT debit, sum(amount) AS spent FROM entry GROUP BY debit) AS sums WHERE id = debit AND kind = 'wallet'",
        (10**15,),
    )
    for _, sql in (*indexes, *triggers):
        raw.execute(sql)


def begin(conn: Connection) -> None:
    priced(conn)
    for a in range(ACCOUNTS):
        conn.execute(insert(schema.ledger_account).values(kind="wallet", owner=f"acc_{a:030d}"))


def questions(days: int) -> dict[str, Callable[[Connection, random.Random], object]]:
    """What is asked, each with chance where a person would ask for this or that."""
    month, whole = NOW - 30 * DAY, NOW - days * DAY

    def ask(**more: Any) -> Callable[[Connection, random.Random], object]:
        return lambda conn, _: usage(conn, **{"since": month, "until": NOW, **more})

    def mine(conn: Connection, dice: random.Random) -> object:
        account = f"acc_{dice.randrange(ACCOUNTS):030d}"
        return usage(conn, since=month, until=NOW, by=("day", "model"), zone="Asia/Kolkata", account=account)

    def receipt(conn: Connection, dice: random.Random) -> object:
        at = NOW - dice.randrange(days) * DAY
        found = conn.exec_driver_sql(
            "SELECT id FROM call WHERE id > ? LIMIT 1", (f"req_{at - DAY:011x}",)
        ).scalar()
        assert isinstance(found, str)
        return calls.by_id(conn, found), calls.attempts(conn, found), wallets.hold(conn, found)

    def page(conn: Connection, dice: random.Random) -> object:
        return wallets.entries(conn, 5 + dice.randrange(ACCOUNTS), before=dice.randrange(10**6), limit=100)

    return {
        "30 days by day": ask(by=("day",)),
        "30 days by day, Asia/Kolkata": ask(by=("day",), zone="Asia/Kolkata"),
        "30 days by key": ask(by=("key",)),
        "30 days by model": ask(by=("model",)),
        "30 days by day and key": ask(by=("day", "key")),
        "30 days by day and model, New York": ask(by=("day", "model"), zone="America/New_York"),
        "all the time by day": ask(since=whole, by=("day",)),
        "all the time by key": ask(since=whole, by=("key",)),
        "all the time by model": ask(since=whole, by=("model",)),
        "all the time by key and model": ask(since=whole, by=("key", "model")),
        "30 days of one account by day and model, Kolkata": mine,
        "a receipt": receipt,
        "a page of a wallet's ledger": page,
    }


async def prepared(folder: Path, told: argparse.Namespace) -> Store:
    settings = Settings(data=str(folder), call_days=0)
    store = open_store(settings, clock=lambda: NOW)
    await store.open()
    if await store.read(partial(marks.value, topic=marks.ROLLED)):
        return store
    await store.write(begin)
    await store.close()
    began = time.monotonic()
    raw = sqlite3.connect(folder / "tollway.db", isolation_level=None)
    write(raw, told.calls, told.days, told.keys)
    raw.close()
    print(f"{told.calls} calls written in {time.monotonic() - began:.0f} s", file=sys.stderr)
    await store.open()
    runner = Runner(Tools(store=store, clock=lambda: NOW, settings=settings))
    for job in ("scheduled-maintenance", "verify-ledger"):
        began = time.monotonic()
        report = await runner.run(job)
        print(
            f"{job}: {report.status} in {time.monotonic() - began:.1f} s {report.reason} {report.details}",
            file=sys.stderr,
        )
    return store


async def measure(told: argparse.Namespace, folder: Path) -> bool:
    store = await prepared(folder, told)
    sums = await store.read(
        lambda conn: conn.exec_driver_sql(
            "SELECT (SELECT count(*) FROM rollup), (SELECT count(*) FROM rollup_sum)"
        ).one()
    )
    size = (folder / "tollway.db").stat().st_size / 2**20
    print(
        f"{told.calls} calls, {sums[0]} quarters by all dimensions, {sums[1]} sums above them, {size:.0f} MiB\n"
    )
    print(f"{'question':52}{'median ms':>10}{'p95 ms':>10}{'goal':>8}")
    good = True
    for name, ask in questions(told.days).items():
        dice, took = random.Random(7), []
        for _ in range(told.asks):
            began = time.perf_counter()
            await store.read(lambda conn, ask=ask, dice=dice: ask(conn, dice))
            took.append((time.perf_counter() - began) * 1000)
        p95 = sorted(took)[max(0, math.ceil(0.95 * len(took)) - 1)]
        good = good and p95 <= GOAL_MS
        print(
            f"{name:52}{statistics.median(took):>10.1f}{p95:>10.1f}{GOAL_MS:>8}{'' if p95 <= GOAL_MS else '  missed'}"
        )
    await store.close()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rows", description=__doc__.partition("\n")[0])
    for name, default in (("calls", 1_000_000), ("days", 90), ("keys", 200), ("asks", 20)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="keep the database here")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollway-rows-") as temporary:
        return 0 if asyncio.run(measure(told, told.folder or Path(temporary))) else 3


if __name__ == "__main__":
    sys.exit(main())
