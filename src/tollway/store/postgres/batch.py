"""A batch of plain ledger operations as one PostgreSQL statement, committed by itself.

The statement locks the accounts of the batch in the order of their ids before it does anything,
so that processes wait for each other in a line and never in a circle. It reports which holds it
wrote and which it closed; an operation it does not report was odd and is done with care.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Integer, Table, Text
from sqlalchemy import types as sqltypes

from tollway.store import records, schema
from tollway.store.base import Balance, HoldRequest, Settled, Settlement
from tollway.store.pending import OpenHolds, Pending
from tollway.store.records import Row, Value


def _type(table: Table, column: str) -> str:
    kind: sqltypes.TypeEngine[Any] = table.c[column].type
    if isinstance(kind, Text):
        return "text"
    return "int" if type(kind) is Integer else "bigint"


def _unnest(table: Table, columns: Sequence[str], first: int) -> str:
    arrays = ", ".join(f"${first + n}::{_type(table, name)}[]" for n, name in enumerate(columns))
    return f"unnest({arrays}) AS v ({', '.join(columns)})"


_HOLD: Final = (
    "id",
    "wallet",
    "budget",
    "project_budget",
    "amount",
    "price_version",
    "expires_at",
    "created_at",
)
_CLOSE: Final = ("id", "settled", "reason", "closed_at")
_FIRST_CLOSE: Final = 3 + len(_HOLD)
_FIRST_CALL: Final = _FIRST_CLOSE + len(_CLOSE)
_FIRST_ATTEMPT: Final = _FIRST_CALL + len(records.CALL_COLUMNS)
_FIRST_DRAW: Final = _FIRST_ATTEMPT + len(records.ATTEMPT_COLUMNS)

_BATCH: Final = f"""
WITH locked AS MATERIALIZED (
  SELECT count(*) AS n FROM (
    SELECT id FROM ledger_account WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE
  ) AS accounts
), held AS (
  INSERT INTO hold (owner, {", ".join(_HOLD)})
  SELECT $2::text, {", ".join(f"v.{name}" for name in _HOLD)}
  FROM {_unnest(schema.hold, _HOLD, 3)}, locked WHERE locked.n >= 0
  ON CONFLICT (id) DO NOTHING RETURNING id
), drawn AS (
  INSERT INTO hold (owner, {", ".join(records.DRAW_COLUMNS)})
  SELECT $2::text, {", ".join(f"v.{name}" for name in records.DRAW_COLUMNS)}
  FROM {_unnest(schema.hold, records.DRAW_COLUMNS, _FIRST_DRAW)}, locked WHERE locked.n >= 0
  ON CONFLICT (id) DO NOTHING RETURNING id
), shut AS (
  UPDATE hold SET state = CASE WHEN v.settled IS NULL THEN 'released' ELSE 'settled' END,
    settled = v.settled, reason = v.reason, closed_at = v.closed_at
  FROM {_unnest(schema.hold, _CLOSE, _FIRST_CLOSE)}, locked
  WHERE locked.n >= 0 AND hold.id = v.id AND hold.state = 'held' RETURNING hold.id
), closed AS (
  SELECT id FROM shut UNION ALL SELECT id FROM drawn
), called AS (
  INSERT INTO call ({", ".join(records.CALL_COLUMNS)})
  SELECT {", ".join(f"v.{name}" for name in records.CALL_COLUMNS)}
  FROM {_unnest(schema.call, records.CALL_COLUMNS, _FIRST_CALL)} JOIN closed ON closed.id = v.id
), tried AS (
  INSERT INTO attempt ({", ".join(records.ATTEMPT_COLUMNS)})
  SELECT {", ".join(f"v.{name}" for name in records.ATTEMPT_COLUMNS)}
  FROM {_unnest(schema.attempt, records.ATTEMPT_COLUMNS, _FIRST_ATTEMPT)} JOIN closed ON closed.id = v.call_id
)
SELECT ARRAY(SELECT id FROM held) AS held, ARRAY(SELECT id FROM closed) AS closed
"""  # noqa: S608 - names of our own columns
_BALANCES: Final = (
    "SELECT id, credited, debited, held, overdraft FROM ledger_account WHERE id = ANY ($1::bigint[])"
)


async def run(conn: Any, owner: str, operations: list[Pending], known: OpenHolds) -> list[Pending]:
    """Carry out plain operations durably and answer them; returns the odd ones, unanswered.

    Raises what asyncpg raises; a refusal of any row is a refusal of the whole batch. Sets itself no
    time: asyncpg's own limit waits for a server that hangs to confirm that it gives up.
    """
    holds = [one.request for one in operations if isinstance(one.request, HoldRequest)]
    settles = [one.request for one in operations if isinstance(one.request, Settlement)]
    closings = [
        _close_row(one.request)
        for one in operations
        if one.draw is None and isinstance(one.request, Settlement)
    ]
    draws = [
        records.draw_row(one.draw, one.request)
        for one in operations
        if one.draw is not None and isinstance(one.request, Settlement)
    ]
    wallets = {known.wallet(one) for one in operations}
    bounds = {account for request in holds for account in (request.budget, request.project_budget)}
    budgets = {account for account in bounds if account is not None}
    settled = [records.settled_rows(one, one.amount or 0, 0) for one in settles]
    attempts = [records.attempt_row(one) for _, tried in settled for one in tried]
    done = await conn.fetchrow(
        _BATCH,
        sorted(wallets | budgets),
        owner,
        *_columns([_hold_row(one) for one in holds], len(_HOLD)),
        *_columns(closings, len(_CLOSE)),
        *_columns([row for row, _ in settled], len(records.CALL_COLUMNS)),
        *_columns(attempts, len(records.ATTEMPT_COLUMNS)),
        *_columns(draws, len(records.DRAW_COLUMNS)),
    )
    found = await balances(conn, wallets)
    written, closed = set(done["held"]), set(done["closed"])
    return [one for one in operations if not _answer(one, written, closed, found, known)]


async def balances(conn: Any, accounts: Iterable[int]) -> dict[int, Balance]:
    """Balances by account."""
    rows = await conn.fetch(_BALANCES, sorted(accounts))
    return {row[0]: Balance(row[1], row[2], row[3], row[4]) for row in rows}


def _answer(
    one: Pending, written: set[str], closed: set[str], found: dict[int, Balance], known: OpenHolds
) -> bool:
    request = one.request
    if isinstance(request, HoldRequest) and request.id in written:
        one.answer = found[request.wallet]
    elif isinstance(request, Settlement) and request.hold_id in closed:
        one.answer = Settled(True, request.amount or 0, 0, found[known.wallet(one)])
    return one.answer is not None


def _hold_row(one: HoldRequest) -> Row:
    return (
        one.id,
        one.wallet,
        one.budget,
        one.project_budget,
        one.amount,
        one.price_version,
        one.expires_at,
        one.created_at,
    )


def _close_row(one: Settlement) -> Row:
    return (one.hold_id, one.amount, one.reason, one.call.finished_at)


def _columns(rows: list[Row], width: int) -> list[list[Value]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
