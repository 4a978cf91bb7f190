"""What a durable hold and settlement cost: pairs per second and CPU, by engine and concurrency.

    python -m bench.ledger [--seconds 2] [--engine sqlite] [--engine postgresql] [--budget]

Each pair is a hold, then a settlement with its call and one attempt, each acknowledged after its
commit. CPU is that of this process (all threads, user and system) per pair, with the cost of the
asking loop itself, which is measured against a ledger that does nothing, taken off. PostgreSQL's
own CPU is listed apart.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.ledger import books, hold_of, settlement_of, wallet_of
from tests.support.postgres import PostgresServer

from tollway.config import Settings
from tollway.store.base import HoldRequest, Settlement, Store
from tollway.store.factory import open_store

CONCURRENCY = (1, 16, 64)


class Measured(NamedTuple):
    pairs: int
    seconds: float
    cpu: float
    server: float


async def drive(
    hold: Callable[[HoldRequest], Awaitable[object]],
    settle: Callable[[Settlement], Awaitable[object]],
    requests: Callable[[], HoldRequest],
    callers: int,
    seconds: float,
) -> int:
    """Run pairs for a while; returns how many."""
    pairs = 0
    end = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal pairs
        while time.monotonic() < end:
            request = requests()
            await hold(request)
            await settle(settlement_of(request.id, 40, held=request.amount, charged=40))
            pairs += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return pairs


async def nothing(_: object) -> None:
    await asyncio.sleep(0)


async def asking(requests: Callable[[], HoldRequest]) -> float:
    """CPU seconds a pair costs with a ledger that does nothing."""
    before = time.process_time()
    pairs = await drive(nothing, nothing, requests, 16, 0.5)
    return (time.process_time() - before) / pairs


async def measure(store: Store, args: argparse.Namespace, server: Callable[[], float]) -> None:
    wallet = await wallet_of(store, 10**14)
    budget = await store.ledger.budget("key", "", 10**14, 1) if args.budget else None

    def requests() -> HoldRequest:
        return hold_of(wallet, 100, budget=budget)

    await drive(store.ledger.hold, store.ledger.settle, requests, 16, 0.3)
    idle = await asking(requests)
    for callers in CONCURRENCY:
        cpu, away, start = time.process_time(), server(), time.monotonic()
        pairs = await drive(store.ledger.hold, store.ledger.settle, requests, callers, args.seconds)
        found = Measured(pairs, time.monotonic() - start, time.process_time() - cpu, server() - away)
        print(
            f"{store.engine:<11} {callers:>7} {found.pairs / found.seconds:>9.0f} "
            f"{(found.cpu / pairs - idle) * 1e6:>12.1f} {found.server / pairs * 1e6:>13.1f} "
            f"{found.seconds * callers / pairs * 1e3:>9.2f}",
            flush=True,
        )
    report = await books(store)
    print(f"{store.engine:<11} books {'balance' if report.ok else 'DO NOT BALANCE'}")


def server_cpu(server: PostgresServer) -> float:
    """CPU seconds of all processes of the server that are alive now."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if os.readlink(stat.parent / "exe").endswith("/postgres") and str(server.port) in server_port(
                stat
            ):
                fields = stat.read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


def server_port(stat: Path) -> str:
    """The command line of a server's parent, or of itself, where its port is."""
    parent = stat.read_text().rpartition(")")[2].split()[1]
    lines = [stat.parent / "cmdline", Path("/proc", parent, "cmdline")]
    return " ".join(line.read_bytes().replace(b"\0", b" ").decode() for line in lines)


async def on_sqlite(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="tollway-bench-") as folder:
        start = time.monotonic()
        store = open_store(Settings(data=folder))
        await store.open()
        print(f"sqlite      ready on an empty folder in {time.monotonic() - start:.3f} s")
        await measure(store, args, lambda: 0.0)
        await store.close()


async def on_postgresql(args: argparse.Namespace) -> None:
    server = PostgresServer({"fsync": "on"})
    try:
        server.start()
        store = open_store(Settings(database_url=server.url()))
        await store.open()
        await measure(store, args, lambda: server_cpu(server))
        await store.close()
    finally:
        server.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--engine", action="append", choices=("sqlite", "postgresql"))
    parser.add_argument("--budget", action="store_true", help="hold against a key's budget too")
    args = parser.parse_args()
    print(
        f"{'engine':<11} {'callers':>7} {'pairs/s':>9} {'us CPU/pair':>12} {'us in server':>13} {'ms/pair':>9}"
    )
    for engine in args.engine or ("sqlite", "postgresql"):
        run = on_sqlite if engine == "sqlite" else on_postgresql
        try:
            import uvloop
        except ImportError:
            asyncio.run(run(args))
        else:
            uvloop.run(run(args))


if __name__ == "__main__":
    main()
