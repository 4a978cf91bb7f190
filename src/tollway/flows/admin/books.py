"""How the books stand: what is new since the last proof, proved now, and how the last proof of everything ended."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from sqlalchemy import Connection, func, select

from tollway.flows.admin.context import Admin
from tollway.store import marks, proved, schema
from tollway.store.proved import WHOLE
from tollway.store.verify import Report, verify

Verdict = Literal["ok", "warning", "failed", "skipped"]

QUICK: Final = 100_000
"""Entries that are proved whole while somebody waits, where nothing was proved before."""
STALE_MS: Final = 3 * 86_400_000
"""A proof of everything is made once a day; one that is much older means that nobody makes it."""

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


class Finding(Struct, frozen=True, kw_only=True):
    """One thing looked at. `fix`: a command or change that helps, "" where nothing is wrong."""

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""


class _Found(Struct, frozen=True, kw_only=True):
    """What was seen in one moment. `report` None: it would have taken too long. Times are Unix ms, 0 for never."""

    report: Report | None
    whole: bool
    proved_at: int
    broken_at: int


async def look(admin: Admin, *, full: bool) -> Finding:
    """Prove what is new, or all of it, and say how long ago everything was last proved."""
    now = admin.clock()

    def see(conn: Connection) -> _Found:
        proved_at = marks.value(conn, marks.PROVED_WHOLE)
        scope = WHOLE if full else proved.rest(conn) if proved_at else None
        if scope is None and _entries(conn) <= QUICK:
            scope = WHOLE
        return _Found(
            report=None if scope is None else verify(conn, scope=scope),
            whole=scope is not None and scope.whole,
            proved_at=proved_at,
            broken_at=marks.value(conn, marks.BROKEN),
        )

    return _finding(await admin.read(see), now)


def _entries(conn: Connection) -> int:
    return conn.execute(select(func.max(schema.entry.c.seq))).scalar() or 0


def _finding(found: _Found, now: int) -> Finding:
    report = found.report
    wrong = [] if report is None else [one for one in report.checks if not (one.ok or one.informational)]
    if wrong:
        broken = f"broken: {', '.join(one.name for one in wrong)}"
        return Finding(check="ledger", verdict="failed", detail=broken, fix="tollway credits verify")
    if found.broken_at and not found.whole:
        return Finding(
            check="ledger",
            verdict="failed",
            detail=f"a proof {_ago(now - found.broken_at)} found it broken, and none of everything has cleared that",
            fix="tollway credits verify",
        )
    if report is None:
        return Finding(
            check="ledger",
            verdict="warning",
            detail="it has never been proved, and is too large to be proved in passing",
            fix="tollway doctor --full",
        )
    held = f"{len(report.checks)} invariants hold for"
    if found.whole:
        return Finding(check="ledger", verdict="ok", detail=f"{held} all of it")
    return _carried_on(f"{held} what is new;", now - found.proved_at)


def _carried_on(said: str, age: int) -> Finding:
    """What was proved before is old by now, or it is not."""
    old = age > STALE_MS
    return Finding(
        check="ledger",
        verdict="warning" if old else "ok",
        detail=f"{said} all of it did {_ago(age)}",
        fix="tollway job run verify-ledger" if old else "",
    )


def _ago(milliseconds: int) -> str:
    for size, unit in _UNITS:
        if milliseconds >= size:
            return f"{milliseconds // size} {unit} ago"
    return "just now"
