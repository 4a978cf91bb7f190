"""Who lives in the world: gateways that hold and settle, recovery, and workers that run jobs by lease.

Everything that touches the database is the store's own code, `careful`, `owners`, `jobs`, `rollups`,
`retention` and `sealed`; what is written here is only the order of steps. `Design` has a switch for
each mistake that the simulation must be able to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, delete, select
from tests.sim.world import ACCOUNT, OLD, Ambiguous, World
from tests.support.ledger import hold_of, settlement_of

from tollway.store import careful, jobs, marks, retention, schema, sealed
from tollway.store.base import HoldRequest, IllegalOperation, InsufficientFunds, Settled, Settlement
from tollway.store.jobs import Lease, LeaseLost
from tollway.store.pending import Pending
from tollway.store.rollups import fill, spans
from tollway.store.rollups.sums import QUARTER_MS, add, quarter, replace
from tollway.store.verify import verify


class Design:
    """How things are done: rightly, unless a mistake is planted."""

    fenced = True
    one_transaction = True
    idempotent = True
    moved_together = True


class Books:
    """What the gateways were promised: holds, and what each settlement was said to charge; what they asked for."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.settled: dict[str, int] = {}
        self.owed: dict[str, int] = dict(OLD)
        self.counted = 0


Run = Callable[[World, str], Iterator[None]]


def gateway(design: Design, books: Books) -> Run:
    """Calls one after the other: hold, send, settle; what is in doubt is run again."""

    def steps(world: World, owner: str) -> Iterator[None]:
        while True:
            amount = world.dice.choice((0, 1, 30, 80, 300))
            request = hold_of(world.wallet, amount, id=world.new_id("req"), created_at=world.now)
            yield
            held = yield from _surely(world, owner, request)
            if held is None:
                continue
            books.held.add(request.id)
            yield
            owed = world.dice.choice((None, 0, amount // 2, amount, amount + 7))
            books.owed[request.id] = owed or 0
            facts = {"account_id": ACCOUNT, "created_at": request.created_at, "finished_at": world.now}
            settlement = settlement_of(request.id, owed, **facts)
            settle = _surely if design.one_transaction and design.idempotent else _wrongly(design)
            settled = yield from settle(world, owner, settlement)
            if settled is not None:
                books.settled[request.id] = settled.charged
            yield

    return steps


def _surely(world: World, owner: str, request: HoldRequest | Settlement) -> Iterator[None]:
    """Run an operation until it is certain what became of it, by its own id."""
    one = Pending(request, None)
    while True:
        try:
            return world.transact(lambda conn: careful.carry_out(conn, owner, one))
        except Ambiguous:
            one.doubtful = True
        except InsufficientFunds:
            return None
        except IllegalOperation:
            # The hold was swept between two runs: a gateway refuses its caller.
            return None
        yield


def _wrongly(design: Design) -> Any:
    return _asked_anew if design.one_transaction else _settled_in_two


def _settled_in_two(world: World, owner: str, request: Settlement) -> Iterator[None]:
    """Planted: the hold is closed in one transaction and the call recorded in the next."""
    amount, at = request.amount, request.call.finished_at
    closed = world.transact(
        lambda conn: careful._close(conn, request.hold_id, _within(conn, request), "done", at), sure=True
    )
    yield
    charged = min(amount or 0, _held(world, request.hold_id)) if closed else 0
    world.transact(lambda conn: careful._record(conn, request, charged, 0, late=False), sure=True)
    return Settled(True, charged, 0, None)  # type: ignore[arg-type]


def _within(conn: Connection, request: Settlement) -> int | None:
    held = conn.execute(select(schema.hold.c.amount).where(schema.hold.c.id == request.hold_id)).scalar_one()
    return None if request.amount is None else min(request.amount, held)


def _held(world: World, hold_id: str) -> int:
    return int(world.value(f"SELECT amount FROM hold WHERE id = '{hold_id}'"))


def _asked_anew(world: World, owner: str, request: Settlement) -> Iterator[None]:
    """Planted: what is in doubt is done once more under another id, as if it had not happened."""
    try:
        return world.transact(lambda conn: careful.carry_out(conn, owner, Pending(request, None)))
    except Ambiguous:
        yield
    fresh = hold_of(world.wallet, request.amount or 0, id=f"{request.hold_id}-again", created_at=world.now)
    if (yield from _surely(world, owner, fresh)) is None:
        return None
    facts = {"account_id": ACCOUNT, "created_at": world.now, "finished_at": world.now}
    yield from _surely(world, owner, settlement_of(fresh.id, request.amount, **facts))
    return None


def recovery() -> Run:
    """Releases the holds of the dead, again and again."""

    def steps(world: World, owner: str) -> Iterator[None]:
        while True:
            world.sweep()
            yield

    return steps


def worker(design: Design, books: Books, name: str, job: Callable[..., Iterator[None]]) -> Run:
    """Claims a job whenever it can, runs it step by step, gives it back."""

    def steps(world: World, owner: str) -> Iterator[None]:
        while True:
            run_id = world.new_id("run")
            lease = world.transact(
                lambda conn, run_id=run_id: jobs.claim(conn, name, owner, run_id, world.now), sure=True
            )
            yield
            if lease is None:
                continue
            try:
                yield from job(world, _fence(design, world, lease), books)
                world.transact(
                    lambda conn, lease=lease: jobs.finish(
                        conn, lease, status="ok", result={}, memo={}, now=world.now, pause_ms=0
                    ),
                    sure=True,
                )
            except LeaseLost:
                pass
            yield

    return steps


def _fence(design: Design, world: World, lease: Lease) -> Any:
    """How a job writes: after asking whether its lease is still the latest, in the same transaction."""

    def write(change: Callable[[Connection], Any]) -> Any:
        def fenced(conn: Connection) -> Any:
            if design.fenced:
                jobs.guard(conn, lease)
            return change(conn)

        return world.transact(fenced, sure=True)

    return write


def count(world: World, write: Any, books: Books) -> Iterator[None]:
    """The smallest job that needs a fence: a number is read, and written back one larger."""
    for _ in range(3):
        value = world.transact(lambda conn: marks.value(conn, "counter"), sure=True)
        yield
        write(lambda conn, value=value: marks.put(conn, "counter", value + 1))
        books.counted += 1
        yield


def maintain(design: Design) -> Callable[..., Iterator[None]]:
    """Roll up, seal and delete as the job does, with a step between reading and writing."""

    def job(world: World, write: Any, books: Books) -> Iterator[None]:
        yield from _summed(world, write)
        rolled, summed = (
            world.transact(lambda conn, topic=topic: marks.value(conn, topic), sure=True)
            for topic in (marks.ROLLED, marks.SUMMED)
        )
        for bucket in world.transact(lambda conn: fill.miscounted(conn, rolled, summed), sure=True):
            until = min(bucket + QUARTER_MS, summed)
            differing = world.transact(
                lambda conn, bucket=bucket, until=until: fill.differing(conn, bucket, until), sure=True
            )
            yield
            for portion in fill.portions(differing, 2):
                write(lambda conn, portion=portion: replace(conn, portion))
                yield
        complete = min(quarter(world.now - fill.SETTLED_MS), summed)
        if complete > rolled:
            write(lambda conn: marks.advance(conn, marks.ROLLED, complete))
        yield
        one = world.transact(lambda conn: sealed.drafted(conn, sealed.horizon(conn)), sure=True)
        yield
        if one is not None:
            write(lambda conn: sealed.affix(conn, one, world.now))
            yield
        while True:
            if design.moved_together:
                if not write(lambda conn: retention.prune(conn, world.now, 3)):
                    break
            elif not (yield from _deleted_in_two(world, write)):
                break
            yield
        yield from _built(world, write)

    return job


def _summed(world: World, write: Any) -> Iterator[None]:
    """Sum what finished, some calls at a time."""
    while True:
        start = world.transact(lambda conn: marks.value(conn, marks.SUMMED), sure=True)
        upto = world.transact(lambda conn: fill.pending(conn, 5, world.now), sure=True)
        if upto <= start:
            return
        write(lambda conn, upto=upto: fill.sum_up(conn, upto))
        if upto == world.now:
            return
        yield


def _built(world: World, write: Any) -> Iterator[None]:
    """Build quarters or hours that are over, in three transactions."""
    for span in ("hour", "quarter"):
        draft = world.transact(lambda conn, span=span: spans.drafted(conn, span), sure=True)
        if draft is not None and draft.rows:
            write(lambda conn, span=span: spans.clear(conn, span, 100))
            for rows in (draft.rows[:1], draft.rows[1:]):
                write(lambda conn, rows=rows: spans.keep(conn, rows))
                yield
            write(lambda conn, draft=draft: spans.finish(conn, draft))
            return


def _deleted_in_two(world: World, write: Any) -> Iterator[None]:
    """Planted: calls are deleted in one transaction and what they add up to is kept in the next."""

    def chosen(conn: Connection) -> list[Any]:
        before = marks.value(conn, marks.ROLLED)
        columns = (
            schema.call.c.id,
            schema.call.c.finished_at,
            fill.bucket(),
            *fill.dimensions(),
            *fill.columns("sqlite"),
        )
        rows = list(conn.execute(select(*columns).where(schema.call.c.finished_at < before).limit(3)))
        ids = [row.id for row in rows]
        return rows if rows and retention._sealed(conn, ids) else []

    rows = world.transact(chosen, sure=True)
    if not rows:
        return 0

    def gone(conn: Connection) -> None:
        ids = [row.id for row in rows]
        conn.execute(delete(schema.attempt).where(schema.attempt.c.call_id.in_(ids)))
        conn.execute(delete(schema.call).where(schema.call.c.id.in_(ids)))
        marks.advance(conn, marks.PRUNED, max(row.finished_at for row in rows) + 1)

    write(gone)
    yield
    write(lambda conn: add(conn, retention._moved(rows)))
    return len(rows)


def wrong(world: World, books: Books) -> list[str]:
    """What is not as it must be at the end of a world; nothing if all is well."""
    world.end()
    # What was not rolled up yet is, as by the next run of the job; nothing that is rolled up is looked at again.
    world.transact(_roll_the_rest, sure=True)
    report = world.transact(verify, sure=True)
    found = [f"{check.name}: {check.differences}" for check in report.checks if not check.ok]
    holds = world.transact(
        lambda conn: {row[0] for row in conn.exec_driver_sql("SELECT id FROM hold")}, sure=True
    )
    found += [f"an acknowledged hold is gone: {one}" for one in books.held - holds]
    charged = world.transact(_charged, sure=True)
    for call, amount in books.settled.items():
        if charged.get(call, 0) != amount:
            found.append(f"{call} was said to be charged {amount}, it was {charged.get(call, 0)}")
    found += _overcharged(books, charged)
    spent = world.value("SELECT debited FROM ledger_account WHERE id = 5")
    if spent != sum(charged.values()):
        found.append(f"the wallet paid {spent} for calls of {sum(charged.values())}")
    counter = world.value("SELECT value FROM mark WHERE topic = 'counter'") or 0
    if counter != books.counted:
        found.append(f"{books.counted} were counted, the counter says {counter}")
    return found


def _overcharged(books: Books, charged: dict[str, int]) -> list[str]:
    """What a caller asked for once is charged once, under however many ids."""
    total: dict[str, int] = {}
    for call, amount in charged.items():
        asked = call.removesuffix("-again")
        total[asked] = total.get(asked, 0) + amount
    return [
        f"{one} owes {books.owed.get(one, 0)} and paid {paid}"
        for one, paid in total.items()
        if paid > books.owed.get(one, 0)
    ]


def _charged(conn: Connection) -> dict[str, int]:
    query = "SELECT hold_id, sum(amount) FROM entry WHERE kind IN ('settle', 'overage') GROUP BY hold_id"
    return {row[0]: row[1] for row in conn.exec_driver_sql(query)}


def _roll_the_rest(conn: Connection) -> None:
    rolled, last = (
        marks.value(conn, marks.ROLLED),
        conn.exec_driver_sql("SELECT max(finished_at) FROM call").scalar(),
    )
    if last is not None:
        replace(conn, fill.differing(conn, rolled, quarter(last) + QUARTER_MS))
