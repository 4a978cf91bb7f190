"""The benchmark of many rows: its database is one the gateway could have left, and its answers are counted right."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from bench.meanwhile import Calls, Watched, line, share
from bench.rowdata import DAY, NOW, Made, begin, write
from tests.support.ledger import books_balance, rows_of, wallet_of

from bench import rows
from tollway.config import Settings
from tollway.store import marks
from tollway.store.factory import open_store
from tollway.store.rollups.fill import sum_up
from tollway.store.sqlite.store import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    found = open_store(Settings(data=str(tmp_path)), clock=lambda: NOW)
    assert isinstance(found, SqliteStore)
    await found.open()
    yield found
    await found.close()


async def made(store: SqliteStore, folder: Path, **facts: object) -> None:
    await store.write(begin)
    await store.close()
    raw = sqlite3.connect(folder / "tollway.db", isolation_level=None)
    write(raw, Made(**{"calls": 3000, "days": 3, **facts}))  # type: ignore[arg-type]
    raw.close()
    await store.open()


async def test_the_books_of_the_made_calls_balance(store: SqliteStore, tmp_path: Path) -> None:
    await made(store, tmp_path)
    await books_balance(store)
    facts = await rows_of(
        store,
        "SELECT count(*), count(DISTINCT key_id), count(DISTINCT model), count(DISTINCT channel_id), sum(cost IS NULL) > 0,"
        " sum(outcome = 'failed'), sum(charged = 0), min(finished_at) >= :since, max(finished_at) < :until FROM call",
        since=NOW - 4 * DAY,
        until=NOW + DAY,
    )
    calls, keys, models, channels, unpriced, failed, free, *within = facts[0]
    assert (calls, models, channels, unpriced) == (3000, 40, 12, 1)
    assert keys > 400
    assert 0 < failed == free < 200
    assert within == [1, 1]
    pairs = (
        "SELECT count(*), max(models) FROM (SELECT count(DISTINCT model) AS models FROM call GROUP BY key_id)"
    )
    assert (await rows_of(store, pairs))[0][1] <= 8, "a key has a few models"


async def test_spread_calls_are_hardly_alike(store: SqliteStore, tmp_path: Path) -> None:
    await made(store, tmp_path, spread=True)
    query = "SELECT max(models) FROM (SELECT count(DISTINCT model) AS models FROM call GROUP BY key_id)"
    assert (await rows_of(store, query))[0][0] > 20


async def test_what_keeps_the_writer_is_timed_and_calls_go_on_meanwhile(store: SqliteStore) -> None:
    wallet = await wallet_of(store, 10**9)
    with Watched(store) as held:
        async with Calls(store, wallet, 500, NOW) as calls:
            while len(calls.took) < 20:
                await store.write(partial(marks.put, topic="n", number=len(calls.took)))
    timed = len(held.took)
    assert timed > 0
    assert all(took > 0 for took in (*held.took, *calls.took))
    assert await rows_of(store, "SELECT count(*) >= 20 FROM call") == [(1,)]
    await store.write(partial(sum_up, until=NOW))
    assert len(held.took) == timed, "it is over"
    await books_balance(store)


@pytest.mark.parametrize(
    ("part", "found"), [(0.0, 1.0), (0.5, 10.0), (0.95, 19.0), (0.951, 20.0), (1.0, 20.0)]
)
def test_a_share_is_the_value_so_many_do_not_exceed(part: float, found: float) -> None:
    assert share([float(n) for n in range(20, 0, -1)], part) == found
    assert share([], part) == 0.0
    assert line("x", [0.001, 0.002, 0.003]).split() == ["x", "3", "2.00", "3.00", "3.00"]


async def test_every_question_is_asked_of_a_small_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "QUIET_S", 0.05)
    told = argparse.Namespace(
        calls=2000, days=3, keys=50, models=5, spread=False, asks=2, rate=50, delete=1, prove=True
    )
    await rows.measure(told, tmp_path)
    shown = capsys.readouterr().out
    for name in (*rows.usages(3), *rows.pages(3)):
        assert f"\n{name}" in shown
    assert "'broken': []" in shown
    assert "scheduled-maintenance: ok" in shown
