"""A batch of plain ledger operations as one SQLite transaction of a few statements.

Each `execute` gives up the interpreter's lock and must win it back from the event loop, so what
counts is the number of statements: a batch is one UPDATE, two or three INSERTs and one SELECT
per wallet, whatever its size. A row that is refused fails its statement only; then the rows are
tried one by one, and those that are odd are left to `store/careful.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final, TypeVar

from tollway.store import records
from tollway.store.base import Balance, HoldRequest, Settled, Settlement
from tollway.store.careful import NO_OVERSPEND, refusal
from tollway.store.pending import OpenHolds, Pending, Plan
from tollway.store.records import Row

T = TypeVar("T")

CHUNK_MAX: Final = 32

_HOLD: Final = (
    "INSERT INTO hold (id, wallet, budget, project_budget, amount, price_version, owner, expires_at, created_at) "
    "VALUES "
)
_DRAW: Final = f"INSERT INTO hold (owner, {', '.join(records.DRAW_COLUMNS)}) VALUES "  # noqa: S608
_CALL: Final = f"INSERT INTO call ({', '.join(records.CALL_COLUMNS)}) VALUES "  # noqa: S608 - our own names
_ATTEMPT: Final = f"INSERT INTO attempt ({', '.join(records.ATTEMPT_COLUMNS)}) VALUES "  # noqa: S608
_CLOSE: Final = (
    "UPDATE hold SET state = CASE WHEN v.column2 IS NULL THEN 'released' ELSE 'settled' END, "
    "settled = v.column2, reason = v.column3, closed_at = v.column4 FROM (VALUES {rows}) AS v "
    "WHERE hold.id = v.column1 AND hold.state = 'held'"
)
_BALANCE: Final = "SELECT credited, debited, held, overdraft FROM ledger_account WHERE id = ?"

_REFUSED: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a statement raises when its values are at fault, not the database."""


class _NotPlain(Exception):
    """A settlement did not find its hold as this process remembers it."""


def run(conn: sqlite3.Connection, owner: str, plan: Plan, known: OpenHolds) -> list[Pending]:
    """Carry out the plain operations of a batch durably and answer them.

    Returns those that must be done with care, unanswered. Raises sqlite3.Error if the database
    failed; then nothing is to be believed, and the transaction may or may not have been committed.
    """
    if not plan.settles and not plan.holds:
        return list(plan.careful)
    odd = stage(conn, owner, plan, known)
    try:
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.rollback()
        raise
    return odd


def stage(conn: sqlite3.Connection, owner: str, plan: Plan, known: OpenHolds) -> list[Pending]:
    """All of `run` but the COMMIT: what is answered is true once that succeeds.

    The statements touch memory only, as a rule; waiting for the disk is left to the COMMIT.
    """
    settles = plan.settles
    careful = list(plan.careful)
    conn.execute("BEGIN IMMEDIATE")
    try:
        try:
            _settle(conn, owner, settles)
        except (_NotPlain, *_REFUSED):
            conn.execute("ROLLBACK")
            careful, settles = settles + careful, []
            conn.execute("BEGIN IMMEDIATE")
        held, odd = _hold(conn, owner, plan.holds)
        balances = _Balances(conn)
        for one in settles:
            one.answer = _settled(one, balances, known)
        for one in held:
            one.answer = balances.of(_wallet(one))
    except BaseException:
        if conn.in_transaction:
            conn.rollback()
        raise
    return odd + careful


class _Balances:
    """Balances as the transaction leaves them; each is asked for once."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._found: dict[int, Balance] = {}

    def of(self, account: int) -> Balance:
        found = self._found.get(account)
        if found is None:
            found = self._found[account] = Balance(*self._conn.execute(_BALANCE, (account,)).fetchone())
        return found


def _settled(one: Pending, balances: _Balances, known: OpenHolds) -> Settled:
    request = one.request
    assert isinstance(request, Settlement)
    return Settled(True, request.amount or 0, 0, balances.of(known.wallet(one)))


def _wallet(one: Pending) -> int:
    assert isinstance(one.request, HoldRequest)
    return one.request.wallet


def _settle(conn: sqlite3.Connection, owner: str, settles: list[Pending]) -> None:
    closings: list[Row] = []
    draws: list[Row] = []
    calls: list[Row] = []
    attempts: list[Row] = []
    for one in settles:
        request = one.request
        assert isinstance(request, Settlement)
        if one.draw is None:
            closings.append((request.hold_id, request.amount, request.reason, request.call.finished_at))
        else:
            draws.append((owner, *records.draw_row(one.draw, request)))
        row, tried = records.settled_rows(request, request.amount or 0, 0)
        calls.append(row)
        attempts.extend(map(records.attempt_row, tried))
    closed = sum(_execute(conn, _closing, chunk).rowcount for chunk in _chunks(closings))
    if closed != len(closings):
        raise _NotPlain
    for chunk in _chunks(draws):
        _execute(conn, _draws, chunk)
    for chunk in _chunks(calls):
        _execute(conn, _calls, chunk)
    for chunk in _chunks(attempts):
        _execute(conn, _attempts, chunk)


def _hold(conn: sqlite3.Connection, owner: str, holds: list[Pending]) -> tuple[list[Pending], list[Pending]]:
    """Returns the operations that were written and those that need care; the others are answered: no funds."""
    held: list[Pending] = []
    odd: list[Pending] = []
    for chunk in _chunks(holds):
        try:
            _execute(conn, _holds, [_hold_row(one, owner) for one in chunk])
        except _REFUSED:
            for one in chunk:
                _hold_alone(conn, owner, one, held, odd)
        else:
            held += chunk
    return held, odd


def _hold_alone(
    conn: sqlite3.Connection, owner: str, one: Pending, held: list[Pending], odd: list[Pending]
) -> None:
    try:
        _execute(conn, _holds, [_hold_row(one, owner)])
    except _REFUSED as error:
        if NO_OVERSPEND not in str(error):
            odd.append(one)
            return
        assert isinstance(one.request, HoldRequest)
        one.answer = refusal(str(error), one.request, _Balances(conn).of)
    else:
        held.append(one)


def _hold_row(one: Pending, owner: str) -> Row:
    request = one.request
    assert isinstance(request, HoldRequest)
    return (
        request.id,
        request.wallet,
        request.budget,
        request.project_budget,
        request.amount,
        request.price_version,
        owner,
        request.expires_at,
        request.created_at,
    )


def _chunks(rows: list[T]) -> Iterator[list[T]]:
    """The rows in runs of 32, 16, 8, 4, 2 and 1, so that few statements are ever prepared."""
    start, left, size = 0, len(rows), CHUNK_MAX
    while left:
        while size > left:
            size //= 2
        yield rows[start : start + size]
        start += size
        left -= size


def _execute(conn: sqlite3.Connection, sql: Callable[[int], str], rows: Sequence[Row]) -> sqlite3.Cursor:
    if len(rows) == 1:
        return conn.execute(sql(1), rows[0])
    return conn.execute(sql(len(rows)), tuple(chain.from_iterable(rows)))


def _values(columns: int, rows: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


@cache
def _holds(rows: int) -> str:
    return _HOLD + _values(9, rows)


@cache
def _draws(rows: int) -> str:
    return _DRAW + _values(1 + len(records.DRAW_COLUMNS), rows)


@cache
def _closing(rows: int) -> str:
    return _CLOSE.format(rows=_values(4, rows))


@cache
def _calls(rows: int) -> str:
    return _CALL + _values(len(records.CALL_COLUMNS), rows)


@cache
def _attempts(rows: int) -> str:
    return _ATTEMPT + _values(len(records.ATTEMPT_COLUMNS), rows)
