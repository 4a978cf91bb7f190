"""Asking what was used: by time, account, project, key, model and channel, of all or of some.

The answer is made of stored sums, so that it costs the same whatever the number of calls, and is
as fresh as the last rollup (`fresh_until`). It holds calls by the time they finished and refunds
by the time they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import Connection, text

from tollway.store import marks
from tollway.store.rollups.periods import BadPeriod, Piece, Unit, pieces
from tollway.store.rollups.sums import FINE, GRAINS, MEASURES

By = Literal["hour", "day", "month", "account", "project", "key", "model", "channel"]

COLUMNS: Final = {
    "account": "account_id",
    "project": "project_id",
    "key": "key_id",
    "model": "model",
    "channel": "channel_id",
}
UNITS: Final = ("hour", "day", "month")


class Used(Struct, frozen=True, kw_only=True):
    """What was used in one period by one combination of what was asked for; None: not asked for by that.

    `at`: the period's beginning, Unix ms. Money is micro-credits: `charged` to customers, `absorbed`
    by the operator, `refunded` in this period, `cost` of upstreams as far as known; `unpriced` is
    the calls whose cost is not. `failures` are calls that delivered nothing. Tokens in include the
    cached ones.
    """

    at: int | None
    account_id: str | None
    project_id: str | None
    key_id: str | None
    model: str | None
    channel_id: str | None
    calls: int
    failures: int
    charged: int
    absorbed: int
    refunded: int
    cost: int
    unpriced: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int


def usage(  # noqa: PLR0913 - one question, all but the connection by keyword
    conn: Connection,
    *,
    since: int,
    until: int,
    by: Sequence[By] = (),
    zone: str = "UTC",
    account: str | None = None,
    project: str | None = None,
    key: str | None = None,
    model: str | None = None,
    channel: str | None = None,
) -> list[Used]:
    """What was used from `since` to before `until` (Unix ms, widened to whole quarters of an hour).

    `by`: at most one of hour, day and month, counted in `zone` (an IANA name), and any of the
    dimensions. The others narrow it down, each to one id; who asks about a key or project should
    name its account as well, because rows are found by that. Rows come by time, then by what was
    charged, most first. Raises BadPeriod.
    """
    units: list[Any] = [one for one in by if one in UNITS]
    if len(units) > 1:
        raise BadPeriod("ask by one of hour, day and month")
    unit: Unit | None = units[0] if units else None
    wanted = {"account": account, "project": project, "key": key, "model": model, "channel": channel}
    only = {COLUMNS[name]: value for name, value in wanted.items() if value is not None}
    grouped = [COLUMNS[one] for one in by if one in COLUMNS]
    sums = _summed(conn, pieces(since, until, unit, zone), grouped, only)
    found = [_used(name, unit, grouped, totals) for name, totals in sums.items() if any(totals)]
    return sorted(found, key=lambda one: (one.at or 0, -one.charged, -one.calls, _name(one)))


def fresh_until(conn: Connection) -> int:
    """Until when (Unix ms) the sums are complete; 0 before the first rollup. Later calls may be in, too."""
    return marks.value(conn, marks.ROLLED)


def _summed(
    conn: Connection, asked: list[Piece], grouped: list[str], only: dict[str, str]
) -> dict[tuple[Any, ...], list[int]]:
    """Sums by (period, *grouped)."""
    grain = next(name for name, columns in GRAINS.items() if {*grouped, *only} <= set(columns))
    # Quarters by many dimensions are read from the rollup itself; everything coarser is in rollup_sum.
    itself = [one for one in asked if grain in FINE and one.span == "quarter"]
    above = [one for one in asked if one not in itself] if itself else asked
    found: dict[tuple[Any, ...], list[int]] = {}
    for table, part in (("rollup", itself), ("rollup_sum", above)):
        if not part:
            continue
        query = _query(table, part, grain, grouped, list(only))
        for row in conn.execute(text(query), only):
            name, totals = tuple(row[: 1 + len(grouped)]), [int(one) for one in row[1 + len(grouped) :]]
            known = found.get(name)
            found[name] = totals if known is None else [a + b for a, b in zip(known, totals, strict=True)]
    return found


def _query(table: str, asked: list[Piece], grain: str, grouped: list[str], only: list[str]) -> str:
    """Everything put into the text is a number or a name of ours; what callers gave is bound."""
    values = ", ".join(f"({one.period}, '{one.span}', {one.since}, {one.until})" for one in asked)
    names = "".join(f", r.{column}" for column in grouped)
    totals = ", ".join(f"sum(r.{measure})" for measure in MEASURES)
    where = "r.bucket >= p.since AND r.bucket < p.until"
    if table == "rollup_sum":
        where = f"r.span = p.span AND r.grain = '{grain}' AND {where}"
    where += "".join(f" AND r.{column} = :{column}" for column in only)
    return (
        f"WITH piece (period, span, since, until) AS (VALUES {values}) "  # noqa: S608
        f"SELECT p.period{names}, {totals} FROM piece p CROSS JOIN {table} r WHERE {where} GROUP BY p.period{names}"
    )


def _used(name: tuple[Any, ...], unit: Unit | None, grouped: list[str], totals: list[int]) -> Used:
    facts: dict[str, Any] = dict.fromkeys(COLUMNS.values())
    facts.update(zip(grouped, name[1:], strict=True))
    facts.update(zip(MEASURES, totals, strict=True))
    return Used(at=name[0] if unit else None, **facts)


def _name(one: Used) -> tuple[str, ...]:
    return tuple(getattr(one, column) or "" for column in COLUMNS.values())
