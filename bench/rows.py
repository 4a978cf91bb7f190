"""How fast usage, receipts and ledger pages are read with many calls on record: `python -m bench.rows`.

    python -m bench.rows [--calls 1000000] [--days 90] [--keys 500] [--models 40] [--spread]
                         [--folder DIR] [--asks 20] [--rate 50] [--delete 0] [--prove]

Makes a SQLite database of so many calls, each with its hold, entry and attempt, spread over so many
days by a daily rhythm, rolls it up and seals it with the jobs' own code, and asks each question so
many times through the store's readers. Prints the median, the 95th percentile and the goal, and
beside them the processor time of the reading thread, which a busy machine does not change as much.

While the jobs work, so many calls a second are held and settled; how long the jobs kept the writer
and how long the calls took is printed, too. --delete: a last run deletes calls older than so many
days. --prove: everything is proved, which takes minutes. With --folder the database is kept there
and used again, without rolling it up once more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection
from tests.support.ledger import wallet_of

from bench.meanwhile import HEADING, Calls, Watched, line, share
from bench.rowdata import ACCOUNTS, DAY, NOW, Made, begin, write
from tollway.config import Settings
from tollway.flows.jobs.proof import seal
from tollway.flows.jobs.registry import JOBS, Job
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Outcome, Tools, Work
from tollway.store import ledger_pages, marks, receipts
from tollway.store.factory import open_store
from tollway.store.ledger_pages import Asked
from tollway.store.rollups import top, usage
from tollway.store.sqlite.store import SqliteStore

GOAL_MS: Final = 300
HELD_MS: Final = 50
"""How long a job may keep the writer in one go."""

Ask = Callable[[Connection, random.Random], object]


def usages(days: int) -> dict[str, Ask]:
    """Questions about usage, by what they are called."""
    month, whole = NOW - 30 * DAY, NOW - days * DAY

    def ask(*by: Any, since: int = month, **more: Any) -> Ask:
        return lambda conn, _: usage(conn, since=since, until=NOW, by=by, **more)

    def mine(*by: Any, **more: Any) -> Ask:
        def asked(conn: Connection, dice: random.Random) -> object:
            account = f"acc_{dice.randrange(ACCOUNTS):030d}"
            return usage(conn, since=month, until=NOW, by=by, account=account, **more)

        return asked

    def leading(conn: Connection, _: random.Random) -> object:
        return top(conn, 1000, since=month, until=NOW, by=("day", "key", "model"), only={})

    return {
        "30 days by day": ask("day"),
        "30 days by day, Kolkata": ask("day", zone="Asia/Kolkata"),
        "30 days by hour, New York": ask("hour", zone="America/New_York"),
        "30 days by key": ask("key"),
        "30 days by model": ask("model"),
        "30 days by channel": ask("channel"),
        "30 days by day and key": ask("day", "key"),
        "30 days by day and key, New York": ask("day", "key", zone="America/New_York"),
        "30 days by day and key, Kolkata": ask("day", "key", zone="Asia/Kolkata"),
        "30 days by day and model, New York": ask("day", "model", zone="America/New_York"),
        "30 days by day, key and model, the first 1000": leading,
        f"{days} days by day": ask("day", since=whole),
        f"{days} days by key": ask("key", since=whole),
        f"{days} days by model": ask("model", since=whole),
        f"{days} days by key and model": ask("key", "model", since=whole),
        f"{days} days by month, account and project": ask("month", "account", "project", since=whole),
        "an account's 30 days by day and model, Kolkata": mine("day", "model", zone="Asia/Kolkata"),
        "an account's 30 days by day, key and model": mine("day", "key", "model"),
    }


def pages(days: int) -> dict[str, Ask]:
    """Questions about single calls and about wallets, each with chance where a person would ask for this or that."""

    def receipt(conn: Connection, dice: random.Random) -> object:
        at = NOW - dice.randrange(1, days) * DAY
        found = conn.exec_driver_sql(
            "SELECT id FROM call WHERE id > ? LIMIT 1", (f"req_{at - DAY:011x}",)
        ).scalar()
        assert isinstance(found, str)
        evidence = receipts.evidence(conn, found)
        assert evidence is not None
        assert evidence.call is not None
        return receipts.names(conn, evidence.call, {one.channel_id for one in evidence.attempts})

    def page(**asked: Any) -> Ask:
        def ask(conn: Connection, dice: random.Random) -> object:
            until = NOW - dice.randrange(days) * DAY if "until" in asked else None
            return ledger_pages.page(conn, 5 + dice.randrange(ACCOUNTS), Asked(**{**asked, "until": until}))

        return ask

    def busiest(conn: Connection, _: random.Random) -> object:
        """The wallet with the most entries, at its beginning, so that all later ones bear on the balance."""
        return ledger_pages.page(conn, 5, Asked(until=NOW - (days - 1) * DAY, limit=100))

    return {
        "a receipt": receipt,
        "the first page of a wallet's ledger": page(limit=100),
        "a page of a wallet's ledger of some day": page(limit=100, until=0),
        "the last page of the busiest wallet's ledger": busiest,
    }


async def _sealed(work: Work) -> Outcome:
    made = await seal(work)
    return Outcome(processed=made, succeeded=made)


async def job(store: SqliteStore, name: str, told: argparse.Namespace, **settings: Any) -> None:
    """Run a job while calls go on, and print what it cost and what they felt."""
    registry = {**JOBS, "seal": Job("seal", "Seal new entries", 60, _sealed)}
    runner = Runner(
        Tools(store=store, clock=lambda: NOW, settings=Settings(**{"call_days": 0, **settings})), registry
    )
    # Another account's, so that nothing that is asked about depends on how long the jobs took.
    wallet = await wallet_of(store, 10**12)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    with Watched(store) as held:
        async with Calls(store, wallet, told.rate, NOW) as calls:
            report = await runner.run(name)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{name}: {report.status} {report.reason} in {time.monotonic() - began:.0f} s,"
        f" {spent:.0f} s of processor time, calls included: {report.details or report.processed}"
    )
    print(HEADING)
    print(
        line("transactions of the job", held.took), "" if share(held.took, 1) * 1000 <= HELD_MS else " long"
    )
    print(line("calls held and settled meanwhile", calls.took), "\n")


async def prepared(folder: Path, told: argparse.Namespace) -> SqliteStore:
    settings = Settings(data=str(folder), call_days=0)
    store = open_store(settings, clock=lambda: NOW)
    assert isinstance(store, SqliteStore)
    await store.open()
    if await store.read(partial(marks.value, topic=marks.ROLLED)):
        return store
    await store.write(begin)
    await store.close()
    began = time.monotonic()
    raw = sqlite3.connect(folder / "tollway.db", isolation_level=None)
    write(raw, Made(**{name: getattr(told, name) for name in Made.__struct_fields__}))
    raw.close()
    # What the disk still has to write is not what is measured.
    await asyncio.to_thread(os.sync)
    print(f"{told.calls} calls written in {time.monotonic() - began:.0f} s", file=sys.stderr)
    await store.open()
    async with Calls(store, await wallet_of(store, 10**12), told.rate, NOW) as calls:
        await asyncio.sleep(QUIET_S)
    print(f"{HEADING}\n{line('calls held and settled without a job', calls.took)}\n")
    await job(store, "scheduled-maintenance", told)
    await job(store, "seal", told)
    return store


QUIET_S: Final = 5.0
"""How long calls are made without a job, to compare with."""


async def measure(told: argparse.Namespace, folder: Path) -> bool:
    store = await prepared(folder, told)
    if told.delete:
        await job(store, "scheduled-maintenance", told, call_days=told.delete)
    if told.prove:
        await job(store, "verify-ledger", told)
    counts = await store.read(
        lambda conn: conn.exec_driver_sql(
            "SELECT (SELECT count(*) FROM rollup), (SELECT count(*) FROM rollup_sum), (SELECT count(*) FROM rollup_place)"
        ).one()
    )
    size = (folder / "tollway.db").stat().st_size / 2**20
    print(
        f"{counts[0]} quarters by all dimensions, {counts[1]} sums above them, {counts[2]} places, {size:.0f} MiB\n"
    )
    print(f"{'question':50}{'rows':>7}{'median ms':>10}{'p95 ms':>10}{'CPU ms':>9}{'goal':>6}")
    good = True
    days = max(2, int(told.days))
    for name, ask in {**usages(days), **pages(days)}.items():
        good = await _asked(store, name, ask, told.asks) and good
    await store.close()
    return good


async def _asked(store: SqliteStore, name: str, ask: Ask, times: int) -> bool:
    dice, took, spent = random.Random(7), [], []
    rows = 1
    for _ in range(times):

        def timed(conn: Connection) -> tuple[float, object]:
            began = time.thread_time()
            found = ask(conn, dice)
            return time.thread_time() - began, found

        began = time.perf_counter()
        cpu, found = await store.read(timed)
        took.append((time.perf_counter() - began) * 1000)
        spent.append(cpu * 1000)
        rows = len(found) if isinstance(found, list) else 1
    p95 = share(took, 0.95)
    missed = "" if p95 <= GOAL_MS else "  missed"
    print(
        f"{name:50}{rows:>7}{statistics.median(took):>10.1f}{p95:>10.1f}{share(spent, 0.95):>9.1f}{GOAL_MS:>6}{missed}"
    )
    return p95 <= GOAL_MS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rows", description=__doc__.partition("\n")[0])
    numbers = {"calls": 1_000_000, "days": 90, "keys": 500, "models": 40, "asks": 20, "rate": 50, "delete": 0}
    for name, default in numbers.items():
        kind = float if name == "days" else int
        parser.add_argument(f"--{name}", type=kind, default=default, help="default: %(default)s")
    parser.add_argument("--spread", action="store_true", help="any key uses any model")
    parser.add_argument("--prove", action="store_true", help="prove everything, too")
    parser.add_argument("--folder", type=Path, help="keep the database here")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollway-rows-") as temporary:
        return 0 if asyncio.run(measure(told, told.folder or Path(temporary))) else 3


if __name__ == "__main__":
    sys.exit(main())
