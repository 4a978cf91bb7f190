"""A world in one thread: a real SQLite database in memory, a clock that only we move, processes that die.

A process is a generator. Where it yields, the world may let time pass, run another process, pause
this one for minutes, or kill it for good. A transaction may commit and still raise, or fail. What
happens follows from the seed alone, so that a failing seed can be run again.
"""

from __future__ import annotations

import gc
import random
import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, update
from tests.support.ledger import hold_of, priced, settlement_of

from tollway.store import careful, migrations, owners, schema
from tollway.store.base import LedgerUnavailable, Transfer
from tollway.store.rollups import sums
from tollway.store.sqlite.connect import writing_engine

T = TypeVar("T")
BEGIN = 1_800_000_000_000
GRANTED = 2_000
ACCOUNT = "acc_sim"
OLD = {f"old_{n}": 10 + n for n in range(5)}
"""Calls from before the world began, with what they owed: old enough to be rolled up and deleted."""

CRASH, PAUSE, TROUBLE = 0.03, 0.03, 0.08


class Ambiguous(LedgerUnavailable):
    """A COMMIT that raised: nobody knows whether it happened."""


@cache
def database() -> Connection:
    """A database with the schema, a funded wallet and some old calls; worlds are undone after their end."""
    raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=512)
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA recursive_triggers = ON")
    conn = writing_engine(raw).connect()
    with conn.begin():
        migrations.create(conn)
        priced(conn)
        conn.execute(insert(schema.ledger_account).values(kind="wallet", owner=ACCOUNT))
        careful.transfer(conn, Transfer(id="grant", kind="grant", wallet=5, amount=GRANTED, at=BEGIN))
        for n, (call, owed) in enumerate(OLD.items()):
            at = BEGIN - 7_200_000 + n * 600_000
            careful.hold(conn, "nobody", hold_of(5, owed, id=call, created_at=at))
            careful.settle(conn, settlement_of(call, owed, account_id=ACCOUNT, created_at=at, finished_at=at))
        # Were it made in a world, the end of that world would unmake it, and with the schema every prepared statement.
        sums._stage(conn, {sums.Place(0, 0, "", "", "", "", ""): sums.NOTHING})
    # What is there by now stays: looking at it again and again for garbage is a third of a world's time.
    gc.freeze()
    return conn


class Process:
    """A running generator; `owner` is new for each start."""

    def __init__(self, name: str, owner: str, steps: Iterator[None]) -> None:
        self.name = name
        self.owner = owner
        self.steps = steps
        self.wakes_at = 0


class World:
    """Everything that happens under one seed. `wallet` is the one there is."""

    wallet = 5

    def __init__(self, seed: int) -> None:
        self._conn = database()
        self._whole = self._conn.begin()
        self._raw: Any = self._conn.connection.driver_connection
        self.dice = random.Random(seed)
        self.now = BEGIN
        self.processes: list[Process] = []
        self.starts: dict[str, Callable[[World, str], Iterator[None]]] = {}
        self.troubled = True
        self._count = 0

    def new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count:06d}"

    # -- the database --------------------------------------------------------------------------

    def transact(self, change: Callable[[Connection], T], *, sure: bool = False) -> T:
        """Run a change. Unless `sure`, it may raise Ambiguous, done or not."""
        trouble = self.troubled and not sure and self.dice.random() < TROUBLE
        lost = trouble and self.dice.random() < 0.5
        # The world is one transaction, which is undone at its end; in it a savepoint is as good as one.
        # It is asked of the driver, because SQLAlchemy takes thirty times as long for it.
        self._raw.execute("SAVEPOINT one")
        try:
            found = change(self._conn)
        except BaseException:
            self._raw.execute("ROLLBACK TO one")
            self._raw.execute("RELEASE one")
            raise
        if lost:
            self._raw.execute("ROLLBACK TO one")
        self._raw.execute("RELEASE one")
        if trouble:
            raise Ambiguous("COMMIT failed")
        return found

    def undo(self) -> None:
        """Leave the database to the next world."""
        self._whole.rollback()

    # -- processes -----------------------------------------------------------------------------

    def start(self, name: str, steps: Callable[[World, str], Iterator[None]]) -> None:
        """Start a process that is started again when it dies."""
        self.starts[name] = steps
        owner = self.new_id(name)
        self.transact(lambda conn: owners.register(conn, owner, "host", 1, self.now), sure=True)
        self.processes.append(Process(name, owner, steps(self, owner)))

    def run(self, steps: int) -> None:
        """Let that many things happen."""
        for _ in range(steps):
            self.now += self.dice.choice((1, 5, 50, 500, 5_000, 20_000))
            ready = [one for one in self.processes if one.wakes_at <= self.now]
            if not ready:
                self.now = min(one.wakes_at for one in self.processes)
                continue
            one = self.dice.choice(ready)
            chance = self.dice.random()
            if chance < CRASH:
                self.kill(one)
                self.start(one.name, self.starts[one.name])
            elif chance < CRASH + PAUSE:
                one.wakes_at = self.now + self.dice.choice((10_000, 60_000, 200_000))
            else:
                next(one.steps)

    def kill(self, one: Process) -> None:
        one.steps.close()
        self.processes.remove(one)

    def sweep(self) -> int:
        """What recovery does, after everybody awake has sent a heartbeat."""

        def change(conn: Connection) -> int:
            awake = [one.owner for one in self.processes if one.wakes_at <= self.now]
            beat = update(schema.worker).where(schema.worker.c.id.in_(awake))
            conn.execute(beat.values(heartbeat_at=self.now))
            return owners.release(conn, owners.dead(self.now), self.now)

        return self.transact(change, sure=True)

    def end(self) -> None:
        """Everybody dies, an hour passes, and recovery has its way."""
        for one in list(self.processes):
            self.kill(one)
        self.now += 3_600_000
        self.troubled = False
        assert self.sweep() >= 0
        assert self.sweep() == 0, "a second sweep finds nothing"

    def value(self, query: str) -> Any:
        """One value out of the database."""
        return self.transact(lambda conn: conn.exec_driver_sql(query).scalar(), sure=True)
