"""How fast usage, receipts and ledger pages are read with many calls on record: `python -m bench.rows`.

    python -m bench.rows [--rows 1000000] [--days 90] [--keys 200] [--folder DIR] [--asks 20]

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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
BATCH = 20_000
ACCOUNTS = 40


def made(rows: int, days: int, keys: int) -> Iterator[tuple[Any, ...]]:
    """Calls in the order of time: (id, account, key, model, channel, at, charged)."""
    dice = random.Random(1)
    step = days * DAY / rows
    for n in range(rows):
        # More by day than by night, as people are.
        at = NOW - days * DAY + n * step
        at = int(at + 4 * 3_600_000 * math.sin(at / DAY * 2 * math.pi))
        key = min(dice.randrange(keys), dice.randrange(keys))
        yield (
            f"req_{at:011x}{n:020x}",
            key % ACCOUNTS,
            key,
            dice.randrange(20),
            dice.randrange(3),
            at,
            1 + n % 5000,
        )


def write(raw: sqlite3.Connection, rows: int, days: int, keys: int) -> None:
    """The rows as the gateway leaves them, without its triggers' work, which is not what is measured."""
    triggers = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        raw.execute(f"DROP TRIGGER {name}")
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA foreign_keys = OFF")
    columns = ("id", "account_id", "project_id", "key_id", "model", "channel_id", "upstream_model", "dialect", "route",
               "stream", "status", "outcome", "flags", "usage", "price_version", "held", "charged", "absorbed", "cost",
               "created_at", "finished_at", "ip", "user_agent")  # fmt: skip
    call = f"INSERT INTO call ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    hold = ("INSERT INTO hold (id, wallet, amount, state, settled, price_version, owner, expires_at, created_at, closed_at)"
            f" VALUES (?, ?, ?, 'settled', ?, {PRICE}, 'bench', 0, ?, ?)")  # fmt: skip
    entry = (
        "INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at) VALUES (?, ?, 2, ?, 'settle', ?, ?)"
    )
    attempt = "INSERT INTO attempt (call_id, n, channel_id, upstream_model, status, latency_ms, cost, created_at) VALUES (?, 1, ?, 'm', 200, 5, 3, ?)"
    batch: list[tuple[Any, ...]] = []

    def flush() -> None:
        raw.execute("BEGIN")
        raw.executemany(call, [
            (i, f"acc_{a:030d}", f"prj_{a:030d}", f"key_{k:030d}", f"model-{m}", f"ch_{c:030d}", "m", "openai_chat",
             "/v1/chat/completions", 1, 200, "ok", "[]", f'{{"output":{x}}}', PRICE, 9000, x, 0, 3, at - 900, at, "127.0.0.1",
             "bench/1")
            for i, a, k, m, c, at, x in batch
        ])  # fmt: skip
        raw.executemany(hold, [(i, 5 + a, 9000, x, at - 900, at) for i, a, k, m, c, at, x in batch])
        raw.executemany(entry, [(f"s:{i}", 5 + a, x, i, at) for i, a, k, m, c, at, x in batch])
        raw.executemany(attempt, [(i, f"ch_{c:030d}", at - 900) for i, a, k, m, c, at, x in batch])
        raw.execute("COMMIT")
        batch.clear()

    for one in made(rows, days, keys):
        batch.append(one)
        if len(batch) == BATCH:
            flush()
    if batch:
        flush()
    for a in range(ACCOUNTS):
        spent = "(SELECT COALESCE(sum(amount), 0) FROM entry WHERE debit = ?)"
        raw.execute(
            f"UPDATE ledger_account SET debited = {spent}, overdraft = {10**15} WHERE id = ?", (5 + a, 5 + a)
        )
    for _, sql in triggers:
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
    write(raw, told.rows, told.days, told.keys)
    raw.close()
    print(f"{told.rows} calls written in {time.monotonic() - began:.0f} s", file=sys.stderr)
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
        f"{told.rows} calls, {sums[0]} quarters by all dimensions, {sums[1]} sums above them, {size:.0f} MiB\n"
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
    for name, default in (("rows", 1_000_000), ("days", 90), ("keys", 200), ("asks", 20)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="keep the database here")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollway-rows-") as temporary:
        return 0 if asyncio.run(measure(told, told.folder or Path(temporary))) else 3


if __name__ == "__main__":
    sys.exit(main())
