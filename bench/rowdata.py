"""A database of many calls, made in minutes: what `bench.rows` asks its questions of."""

from __future__ import annotations

import math
import sqlite3
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, insert
from tests.support.ledger import PRICE, priced

from tollway.store import schema

NOW: Final = 1_800_000_000_000
DAY: Final = 86_400_000
BATCH: Final = 1_000_000
ACCOUNTS: Final = 100
CHANNELS: Final = 12
VERSION: Final = PRICE + 1
"""The price version of the calls: one micro-credit for each token of every kind."""


class Made(Struct, frozen=True, kw_only=True):
    """How much there is to be. `spread`: any key uses any model, so that hardly two calls are alike."""

    calls: int
    days: float = 90
    keys: int = 500
    models: int = 40
    spread: bool = False


CALLS: Final = """
    WITH RECURSIVE number (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :end),
    chance AS (
      SELECT n, :begin + n * :step AS even, (n * 2654435761 % 4294967291) / 4294967291.0 AS u,
        (n * 40503 % 2147483647 * 7919 % 1000003) % 1000 AS v, (n * 97531 % 65521 * 31 % 10007) % 1000 AS w, n % 5000 AS x
      FROM number
    ),
    keyed AS (
      SELECT n, CAST(u * u * u * :keys AS INTEGER) AS k, v, w, x, w >= 980 AS bad,
        CASE WHEN v < 620 THEN 0 WHEN v < 870 THEN 1 WHEN v < 970 THEN 2 ELSE 3 + v % 5 END AS j,
        CAST(even + :swing * (sin(even / 86400000.0 * 6.283185307179586) - 1) AS INTEGER) AS at
      FROM chance
    ),
    chosen AS (
      SELECT n, k, w, x, bad, at, CASE WHEN :spread THEN (n * 97531 % 65521) % :models ELSE (k * 7 + j * j * 3 + j) % :models END AS m
      FROM keyed
    ),
    made_call AS (
      SELECT printf('req_%011x%020x', at, n) AS id, k % :accounts AS a, k % :accounts * 2 + k / :accounts % 2 AS p, k, m, bad, at,
        (m * 5 + (w % 10 = 9) * 3) % :channels AS c, CASE WHEN bad THEN 0 ELSE x + 200 + x / 2 + 1 END AS owed,
        CASE WHEN bad THEN '{}' ELSE '{"input":' || x || ',"cache_read":' || 200 || ',"output":' || (x / 2 + 1) || '}' END AS used
      FROM chosen
    )
"""
"""Calls numbered from `first` to before `end`, nearly in the order of time: more by day than by night, as people are.

A few keys make most of the calls; each has a favourite model, some others, and for each model a
channel that nearly always serves it. Two in a hundred calls fail. `spread`: any key any model.
"""

TABLES: Final = (
    f"""
    INSERT INTO call (id, account_id, project_id, key_id, model, channel_id, upstream_model, dialect, route, stream, status,
      outcome, flags, usage, price_version, held, charged, absorbed, cost, created_at, finished_at, ip, user_agent,
      tried_at, tried_ms)
    {CALLS} SELECT id, printf('acc_%030d', a), printf('prj_%030d', p), printf('key_%030d', k), 'model-' || m,
      printf('ch_%030d', c), 'm', 'openai_chat', '/v1/chat/completions', 1, CASE WHEN bad THEN 502 ELSE 200 END,
      CASE WHEN bad THEN 'failed' ELSE 'ok' END, '[]', used, {VERSION}, 9000, owed, 0,
      CASE WHEN c = 0 AND NOT bad THEN NULL WHEN bad THEN 0 ELSE owed / 2 END, at - 900, at, '127.0.0.1', 'bench/1',
      CASE WHEN NOT bad THEN at - 900 END, CASE WHEN NOT bad THEN 5 END FROM made_call
    """,
    f"""
    INSERT INTO hold (id, wallet, amount, state, settled, price_version, owner, expires_at, created_at, closed_at)
    {CALLS} SELECT id, 5 + a, 9000, CASE WHEN bad THEN 'released' ELSE 'settled' END, CASE WHEN bad THEN NULL ELSE owed END,
      {VERSION}, 'bench', 0, at - 900, at FROM made_call
    """,
    f"""
    INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
    {CALLS} SELECT 's:' || id, 5 + a, 2, owed, 'settle', id, at FROM made_call WHERE NOT bad
    """,
    f"""
    INSERT INTO attempt (call_id, n, channel_id, upstream_model, status, latency_ms, cost, created_at)
    {CALLS} SELECT id, 1, printf('ch_%030d', c), 'm', 502, 5, 0, at - 900 FROM made_call WHERE bad
    """,
)
"""What the gateway leaves of a call."""


def write(raw: sqlite3.Connection, made: Made) -> None:
    """The rows as the gateway leaves them, without its triggers' and indexes' work, which is not what is measured."""
    triggers = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    indexes = raw.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name IN ('call', 'hold', 'entry', 'attempt')"
    ).fetchall()
    for kind, those in (("TRIGGER", triggers), ("INDEX", indexes)):
        for name, _ in those:
            raw.execute(f"DROP {kind} {name}")
    for pragma in (
        "synchronous = OFF",
        "foreign_keys = OFF",
        "cache_size = -262144",
        "wal_autocheckpoint = 100000",
        "ignore_check_constraints = ON",
    ):
        raw.execute(f"PRAGMA {pragma}")
    raw.create_function("sin", 1, math.sin, deterministic=True)
    facts = {
        "begin": NOW - made.days * DAY, "swing": min(DAY // 6, made.days * DAY / 6), "step": made.days * DAY / made.calls, "keys": made.keys, "models": made.models,
        "accounts": ACCOUNTS, "channels": CHANNELS, "spread": made.spread,
    }  # fmt: skip
    for first in range(0, made.calls, BATCH):
        raw.execute("BEGIN")
        for table in TABLES:
            raw.execute(table, {**facts, "first": first, "end": min(first + BATCH, made.calls)})
        raw.execute("COMMIT")
    raw.execute(
        "UPDATE ledger_account SET overdraft = ?, debited = COALESCE(spent, 0)"
        " FROM (SELECT debit, sum(amount) AS spent FROM entry GROUP BY debit) AS sums WHERE id = debit AND kind = 'wallet'",
        (10**15,),
    )
    for _, sql in (*indexes, *triggers):
        raw.execute(sql)


def begin(conn: Connection) -> None:
    priced(conn)
    rates = '{"input":1000000,"cache_read":1000000,"output":1000000}'
    conn.execute(
        insert(schema.price_version).values(version=VERSION, model_id="m", rates=rates, created_at=1)
    )
    for a in range(ACCOUNTS):
        conn.execute(insert(schema.ledger_account).values(kind="wallet", owner=f"acc_{a:030d}"))
