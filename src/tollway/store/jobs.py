"""Who runs which job: leases with fencing tokens, when each is due, and the history of runs.

A job is claimed by raising its token and setting a lease of `LEASE_MS`, in one statement that only
one process can win. The holder renews it while it works. One that cannot (it was paused, or its
host is gone) loses it to the next claim; everything it writes after that is refused, because each
write begins with `guard`, which compares tokens inside the writing transaction. So a job runs once
at a time, and its writes are those of one run at a time even where two processes believe they run it.

Times are Unix milliseconds. On PostgreSQL they are the database's own, because hosts disagree and
a lease must not be lost for it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import Connection, Row, bindparam, case, delete, func, insert, select, text, update

from tollway.core import json
from tollway.store.insert import insert_once
from tollway.store.schema import job, job_run

LEASE_MS: Final = 30_000
_CLOCK: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")

_CLAIM: Final = (
    update(job)
    .where(job.c.name == bindparam("one"), job.c.owner.is_(None) | (job.c.lease_until <= bindparam("now")))
    .values(owner=bindparam("by"), token=job.c.token + 1, lease_until=bindparam("until"))
    .returning(job.c.token, job.c.memo)
)
_TOKEN: Final = select(job.c.token).where(job.c.name == bindparam("one")).with_for_update()

Status = Literal["running", "ok", "failed"]


class Lease(Struct, frozen=True, kw_only=True):
    """The right to run a job. `memo` is what the job left for its next run."""

    job: str
    run_id: str
    owner: str
    token: int
    memo: dict[str, Any]


class JobState(Struct, frozen=True, kw_only=True):
    """A job as it stands: its holder (None: nobody runs it), and when it is due next (0: at once)."""

    name: str
    owner: str | None
    lease_until: int
    next_at: int


class JobRun(Struct, frozen=True, kw_only=True):
    """One run. `result`: what it counted, or its error."""

    id: str
    job: str
    status: str
    started_at: int
    finished_at: int | None
    result: dict[str, Any]


class LeaseLost(Exception):
    """Another process runs this job by now; nothing of what was asked for was written."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"the lease of {lease.job} was lost to another process")


def moment(conn: Connection, now: int) -> int:
    """The time leases go by: the database's on PostgreSQL, the caller's on SQLite."""
    if conn.dialect.name == "postgresql":
        return int(conn.execute(_CLOCK).scalar_one())
    return now


def claim(
    conn: Connection, name: str, owner: str, run_id: str, now: int, *, due: bool = False
) -> Lease | None:
    """Take a job that nobody runs, and write the beginning of its run. None: somebody runs it.

    `due`: only if its time has come. The run of a holder that died is written off as failed.
    """
    now = moment(conn, now)
    insert_once(conn, job, {"name": name})
    change = _CLAIM.where(job.c.next_at <= now) if due else _CLAIM
    facts = {"one": name, "now": now, "by": owner, "until": now + LEASE_MS}
    found = conn.execute(change, facts).first()
    if found is None:
        return None
    _write_off(conn, name, now)
    conn.execute(insert(job_run).values(id=run_id, job=name, status="running", started_at=now))
    return Lease(job=name, run_id=run_id, owner=owner, token=found.token, memo=json.decode(found.memo))


def _write_off(conn: Connection, name: str, now: int) -> None:
    died = json.encode({"error": "its process died or lost its lease"}).decode()
    change = update(job_run).where(job_run.c.job == name, job_run.c.status == "running")
    conn.execute(change.values(status="failed", finished_at=now, result=died))


def renew(conn: Connection, lease: Lease, now: int) -> None:
    """Keep the lease for another `LEASE_MS`. Raises LeaseLost."""
    change = update(job).where(
        job.c.name == lease.job, job.c.token == lease.token, job.c.owner == lease.owner
    )
    if conn.execute(change.values(lease_until=moment(conn, now) + LEASE_MS)).rowcount != 1:
        raise LeaseLost(lease)


def guard(conn: Connection, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is still the latest; nobody can claim the job until this transaction ends."""
    if conn.execute(_TOKEN, {"one": lease.job}).scalar() != lease.token:
        raise LeaseLost(lease)


def finish(  # noqa: PLR0913 - one ending, by keyword
    conn: Connection,
    lease: Lease,
    *,
    status: Status,
    result: dict[str, Any],
    memo: dict[str, Any],
    now: int,
    pause_ms: int,
) -> None:
    """Give the job back, due again in `pause_ms`, and write the end of its run. Raises LeaseLost."""
    guard(conn, lease)
    now = moment(conn, now)
    conn.execute(
        update(job)
        .where(job.c.name == lease.job)
        .values(owner=None, lease_until=0, next_at=now + pause_ms, memo=json.encode(memo).decode())
    )
    change = update(job_run).where(job_run.c.id == lease.run_id, job_run.c.status == "running")
    conn.execute(change.values(status=status, finished_at=now, result=json.encode(result).decode()))


def listed(conn: Connection) -> list[JobState]:
    """Every job that was ever claimed, by name. A lease that has run out counts as nobody's."""
    return [
        JobState(name=row.name, owner=row.owner, lease_until=row.lease_until, next_at=row.next_at)
        for row in conn.execute(select(job).order_by(job.c.name))
    ]


def due(conn: Connection, names: list[str], now: int) -> list[str]:
    """Which of these jobs may be claimed as due now, including those never run."""
    now = moment(conn, now)
    waits = case((job.c.owner.is_(None), job.c.next_at > now), else_=job.c.lease_until > now)
    waiting = conn.execute(select(job.c.name).where(job.c.name.in_(names), waits)).scalars().all()
    return [name for name in names if name not in waiting]


def running(conn: Connection, name: str) -> str | None:
    """The id of the run of a job that is under way, if any."""
    query = select(job_run.c.id).where(job_run.c.job == name, job_run.c.status == "running")
    return conn.execute(query.order_by(job_run.c.started_at.desc()).limit(1)).scalar()


def history(
    conn: Connection, name: str | None = None, *, limit: int = 50, before: int | None = None
) -> list[JobRun]:
    """Runs of one job or of all, newest first; `before` is a time the page ends before."""
    query = select(job_run).order_by(job_run.c.started_at.desc(), job_run.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(job_run.c.job == name)
    if before is not None:
        query = query.where(job_run.c.started_at < before)
    return [_run(row) for row in conn.execute(query)]


def forget(conn: Connection, now: int, age_ms: int, most: int) -> int:
    """Delete up to `most` runs that ended more than `age_ms` ago, but never a job's last; returns how many."""
    before = moment(conn, now) - age_ms
    last = select(func.max(job_run.c.started_at)).group_by(job_run.c.job)
    old = select(job_run.c.id).where(job_run.c.finished_at < before, job_run.c.started_at.not_in(last))
    return conn.execute(delete(job_run).where(job_run.c.id.in_(old.limit(most)))).rowcount


def _run(row: Row[Any]) -> JobRun:
    return JobRun(
        id=row.id,
        job=row.job,
        status=row.status,
        started_at=row.started_at,
        finished_at=row.finished_at,
        result=json.decode(row.result),
    )
