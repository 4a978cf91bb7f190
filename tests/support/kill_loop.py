"""Kill a process that works on a ledger, again and again, and look whether what it was promised is true.

Run as a program: `python -m tests.support.kill_loop ROUNDS DATABASE [leased]`, where DATABASE is a folder
or a PostgreSQL URL; `leased`: calls are held within leases, and only settlements are promises. It forks the workers itself, so that only one interpreter starts. Prints one
line of JSON: counts, and the ids of what was promised and is not there.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys

from sqlalchemy import text
from tests.support.ledger import books, hold_of, settlement_of, wallet_of

from tollway.config import Settings
from tollway.store.base import LedgerUnavailable, Store
from tollway.store.factory import open_store
from tollway.store.leases import Leases
from tollway.store.sqlite import writer

WORKERS = 8
ACKS = 150


def settings_of(database: str) -> Settings:
    return Settings(database_url=database) if "://" in database else Settings(data=database)


async def work(database: str, wallet: int, pipe: int, *, leased: bool = False) -> None:
    """Hold and settle for ever; write a line for each answer from the ledger."""
    store = open_store(settings_of(database))
    await store.open()
    ledger = Leases(store.ledger, hot=2) if leased else store.ledger

    async def worker() -> None:
        while True:
            request = hold_of(wallet, 10)
            try:
                await ledger.hold(request)
            except LedgerUnavailable:  # a machine so busy that a commit took too long: nothing was promised
                continue
            if not leased:
                os.write(pipe, f"h {request.id}\n".encode())
            amount = random.choice([None, 0, 4, 10, 13])
            settled = await ledger.settle(settlement_of(request.id, amount))
            os.write(pipe, f"s {request.id} {settled.charged}\n".encode())

    await asyncio.gather(*(worker() for _ in range(WORKERS)))


def one_round(database: str, wallet: int, *, leased: bool = False) -> list[str]:
    """Fork a worker, kill it after some answers, return them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        random.seed()
        # Half of them commit on the event loop whenever they can, the others never.
        writer.QUICK_SECONDS = random.choice([0.0, 1e9])
        asyncio.run(work(database, wallet, writing, leased=leased))
        os._exit(1)
    os.close(writing)
    enough = random.randint(1, ACKS)
    received = b""
    while received.count(b"\n") < enough:
        more = os.read(reading, 65536)
        assert more, "the worker ended by itself"
        received += more
    os.kill(child, signal.SIGKILL)
    while more := os.read(reading, 65536):
        received += more
    os.close(reading)
    os.waitpid(child, 0)
    return received.decode().splitlines()


async def prepare(database: str) -> int:
    store = open_store(settings_of(database))
    await store.open()
    wallet = await wallet_of(store, 10**9)
    await store.close()
    return wallet


async def missing(store: Store, acks: list[str]) -> list[str]:
    """Promises that the database does not keep."""
    holds, calls = await store.read(
        lambda conn: (
            dict(map(tuple, conn.execute(text("SELECT id, state FROM hold")))),
            dict(map(tuple, conn.execute(text("SELECT id, charged FROM call")))),
        )
    )
    lost = []
    for ack in acks:
        kind, hold_id, *charged = ack.split()
        if hold_id not in holds or (
            kind == "s" and (calls.get(hold_id) != int(charged[0]) or holds[hold_id] == "held")
        ):
            lost.append(ack)
    return lost


async def judge(database: str, acks: list[str]) -> dict[str, object]:
    store = open_store(settings_of(database))
    await store.open()
    if store.engine == "postgresql":
        await store.write(
            lambda conn: conn.execute(text("UPDATE worker SET heartbeat_at = 1 WHERE stopped_at IS NULL"))
        )
    await store.recover(1)
    swept_again = await store.recover(1)
    open_holds = await store.read(
        lambda conn: conn.execute(text("SELECT count(*) FROM hold WHERE state = 'held'")).scalar()
    )
    drawn = await store.read(
        lambda conn: conn.execute(text("SELECT count(*) FROM hold WHERE lease IS NOT NULL")).scalar()
    )
    released = await store.read(
        lambda conn: conn.execute(text("SELECT count(*) FROM hold WHERE reason = 'owner_dead'")).scalar()
    )
    report = await books(store)
    lost = await missing(store, acks)
    await store.close()
    return {
        "acks": len(acks),
        "lost": lost,
        "open": open_holds,
        "released": released,
        "drawn": drawn,
        "swept_again": swept_again,
        "books": [check.name for check in report.checks if not check.ok],
    }


def main() -> None:
    rounds, database, leased = int(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["leased"]
    wallet = asyncio.run(prepare(database))
    acks = [ack for _ in range(rounds) for ack in one_round(database, wallet, leased=leased)]
    print(json.dumps(asyncio.run(judge(database, acks))))


if __name__ == "__main__":
    main()
