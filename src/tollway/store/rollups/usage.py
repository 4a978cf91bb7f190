"""Asking what was used: by time, account, project, key, model and channel, of all or of some.

The answer is made of stored sums, so that it costs the same whatever the number of calls, and is
as fresh as the last rollup (`fresh_until`). It holds calls by the time they finished and refunds
by the time they were made.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import Connection, text

from tollway.store import marks
from tollway.store.rollups import places
from tollway.store.rollups.periods import BadPeriod, Piece, Unit, pieces
from tollway.store.rollups.places import GRAINS
from tollway.store.rollups.sums import MEASURES, SPANS, STORED, Sums, built, plus

By = Literal["hour", "day", "month", "account", "project", "key", "model", "channel"]

COLUMNS: Final = {
    "account": "account_id",
    "project": "project_id",
    "key": "key_id",
    "model": "model",
    "channel": "channel_id",
}
UNITS: Final = ("hour", "day", "month")
ITSELF: Final = "itself"
"""Quarters by all dimensions, as the rollup itself has them."""


class Used(Struct, frozen=True):
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
    dimensions. The others narrow it down, each to one id. Rows come by time, then by what was
    charged, most first. Raises BadPeriod.
    """
    wanted = {"account": account, "project": project, "key": key, "model": model, "channel": channel}
    only = {name: value for name, value in wanted.items() if value is not None}
    return top(conn, None, since=since, until=until, by=by, zone=zone, only=only)


def top(  # noqa: PLR0913 - one question, all but the connection and the number by keyword
    conn: Connection,
    most: int | None,
    *,
    since: int,
    until: int,
    by: Sequence[By] = (),
    zone: str = "UTC",
    only: Mapping[str, str],
) -> list[Used]:
    """The first `most` rows of what `usage` answers, or all, where it is narrowed down by `only`: ids by dimension.

    By time and several dimensions there can be a hundred thousand rows, which take longer to hand
    over than to sum. Raises BadPeriod.
    """
    units: list[Any] = [one for one in by if one in UNITS]
    if len(units) > 1:
        raise BadPeriod("ask by one of hour, day and month")
    unit: Unit | None = units[0] if units else None
    grouped = [COLUMNS[one] for one in by if one in COLUMNS]
    question = _question(conn, grouped, {COLUMNS[name]: value for name, value in only.items()})
    asked = pieces(since, until, unit, zone, _spans(conn, question.grain))
    found = [one for one in _first(conn, asked, question, most if unit else None).items() if any(one[1])]
    found = sorted(found, key=_rank) if most is None else heapq.nsmallest(most, found, key=_rank)
    # By position, because there may be tens of thousands.
    columns = list(COLUMNS.values())
    where = [columns.index(column) for column in grouped]
    return [Used(*_row(name, unit, where, totals)) for name, totals in found]


def _row(name: tuple[Any, ...], unit: Unit | None, where: list[int], totals: Sums) -> tuple[Any, ...]:
    """A row's fields in their order; `where`: which dimension each part of its name is."""
    dimensions: list[str | None] = [None] * len(COLUMNS)
    for at, value in zip(where, name[1:], strict=True):
        dimensions[at] = value
    return (name[0] if unit else None, *dimensions, *totals)


_CHARGED: Final = MEASURES.index("charged")
_CALLS: Final = MEASURES.index("calls")


def _rank(one: tuple[tuple[Any, ...], Sums]) -> tuple[Any, ...]:
    return one[0][0], -one[1][_CHARGED], -one[1][_CALLS], one[0][1:]


def fresh_until(conn: Connection) -> int:
    """Until when (Unix ms) the sums are complete; 0 before the first rollup. Later calls may be in, too."""
    return marks.value(conn, marks.ROLLED)


class _Question(Struct, frozen=True):
    """What is asked for: the grain it is answered from, the dimensions it groups by, and those it is narrowed to."""

    grain: str
    grouped: tuple[str, ...]
    only: dict[str, str]
    owner: int | None


def _question(conn: Connection, grouped: list[str], only: dict[str, str]) -> _Question:
    grain = next(name for name, columns in GRAINS.items() if {*grouped, *only} <= set(columns))
    return _Question(grain, tuple(grouped), only, places.owner(conn, only))


def _spans(conn: Connection, grain: str) -> dict[str, int]:
    """The spans there are of a grain, longest first, and until when; those of the rollup itself are called "itself"."""
    until = built(conn)
    found = {span: until[span] for span in SPANS if (span, grain) in STORED}
    return {**found, ITSELF: 0}


def _first(
    conn: Connection, asked: list[Piece], question: _Question, most: int | None
) -> dict[tuple[Any, ...], Sums]:
    """Sums by (period, *grouped): all of them, or those of so many periods that there are `most`."""
    if most is None:
        return _summed(conn, asked, question)
    found: dict[tuple[Any, ...], Sums] = {}
    for _, part in groupby(asked, key=attrgetter("period")):
        found |= _summed(conn, list(part), question)
        if sum(map(any, found.values())) >= most:
            break
    return found


def _summed(conn: Connection, asked: list[Piece], question: _Question) -> dict[tuple[Any, ...], Sums]:
    """Sums by (period, *grouped)."""
    values = {**question.only, "owner": question.owner} if question.owner is not None else question.only
    found: dict[tuple[Any, ...], Sums] = {}
    width, plain = 1 + len(question.grouped), conn.dialect.name == "sqlite"
    for itself in (True, False):
        part = [one for one in asked if (one.span == ITSELF) is itself]
        for at in range(0, len(part), PIECES):
            query = text(_query(itself, part[at : at + PIECES], question))
            for row in conn.execute(query, values):
                # PostgreSQL's sums are decimals.
                name, totals = row[:width], row[width:] if plain else tuple(map(int, row[width:]))
                found[name] = plus(found[name], totals) if name in found else totals
    return found


PIECES: Final = 5_000
"""Pieces named in one query."""


def _query(itself: bool, asked: list[Piece], question: _Question) -> str:
    """Everything put into the text is a number or a name of ours; what callers gave is bound.

    Rows are summed by the number of their place first, and only what comes of it is given names.
    """
    values = ", ".join(f"({one.period}, '{one.span}', {one.since}, {one.until})" for one in asked)
    table = "rollup" if itself else "rollup_sum"
    where = "r.bucket >= p.since AND r.bucket < p.until"
    if not itself:
        where = f"r.span = p.span AND r.grain = '{question.grain}' AND {where}"
    if question.owner is not None:
        # Said in the words of the partial index, too.
        where += " AND r.owner = :owner AND r.owner > 0"
    join = "JOIN rollup_place l ON l.id = r.place" if question.only or itself else ""
    where += "".join(f" AND l.{column} = :{column}" for column in question.only)
    place = f"l.of_{question.grain}" if itself and question.grain != "full" else "r.place"
    group = f"p.period, {place}" if question.grouped else "p.period"
    totals = ", ".join(f"sum(r.{measure}) AS {measure}" for measure in MEASURES)
    sums = (
        f"SELECT {group}{' AS place' if question.grouped else ''}, {totals} "  # noqa: S608
        f"FROM piece p CROSS JOIN {table} r {join} WHERE {where} GROUP BY {group}"
    )
    return f"WITH piece (period, span, since, until) AS (VALUES {values}) {_named(sums, question)}"


def _named(sums: str, question: _Question) -> str:
    """The sums by the names that are asked for; rows of the same names are left to the caller where there are few."""
    if not question.grouped:
        return sums
    names = ", ".join(f"l.{column}" for column in question.grouped)
    joined = f"FROM ({sums}) s JOIN rollup_place l ON l.id = s.place"
    if _TELLING[question.grain] <= set(question.grouped):
        return f"SELECT s.period, {names}, {', '.join(MEASURES)} {joined}"
    totals = ", ".join(f"sum({measure})" for measure in MEASURES)
    return f"SELECT s.period, {names}, {totals} {joined} GROUP BY s.period, {names}"


_TELLING: Final = {
    "model_channel": {"model", "channel_id"},
    "key": {"key_id"},
    "key_model": {"key_id", "model"},
    "full": {"key_id", "model", "channel_id"},
}
"""The dimensions of each grain that nearly tell its places apart: a key has but one project and account."""
