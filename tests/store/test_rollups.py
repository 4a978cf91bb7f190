"""Rollups agree with the calls, whatever is settled late, and answer for days of any time zone."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, delete, insert
from tests.support.ledger import call_of, new_id, rows_of

from tollway.store import records, schema
from tollway.store.base import CallRecord, Store
from tollway.store.rollups import periods, usage
from tollway.store.rollups.fill import add_refunds, differing, first_after, miscounted, portions
from tollway.store.rollups.periods import BadPeriod, pieces
from tollway.store.rollups.sums import MEASURES, QUARTER_MS, STORED, quarter, replace

BEGIN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000


def put_calls(conn: Connection, calls: list[CallRecord]) -> None:
    rows = [
        dict(zip(records.CALL_COLUMNS, records.call_row(one, one.charged, one.absorbed), strict=True))
        for one in calls
    ]
    conn.execute(insert(schema.call), rows)


def fill(conn: Connection, since: int, until: int) -> int:
    """Roll up as the job does, in one go."""
    changed = differing(conn, quarter(since), until + -until % QUARTER_MS)
    for portion in portions(changed, 50):
        replace(conn, portion)
    return len(changed)


def some_calls(count: int, days: int, seed: int = 1) -> list[CallRecord]:
    dice = random.Random(seed)
    found = []
    for n in range(count):
        finished = BEGIN + dice.randrange(days * DAY)
        account = dice.choice("ab")
        found.append(
            call_of(
                new_id(),
                account_id=f"acc_{account}",
                project_id=f"prj_{account}",
                key_id=f"key_{account}{dice.randrange(3)}",
                model=dice.choice(["m1", "m2", "m3"]),
                channel_id=dice.choice(["ch1", "ch2", None]),
                outcome=dice.choice(["ok", "ok", "failed"]),
                usage={
                    "input": n,
                    "cache_read": 3,
                    "audio_in": 1,
                    "output": 2 * n,
                    "reasoning": 1,
                    "image": 9,
                },
                charged=dice.randrange(10**6),
                absorbed=dice.randrange(10),
                cost=dice.choice([None, dice.randrange(1000)]),
                created_at=finished - 500,
                finished_at=finished,
            )
        )
    return found


def expected(
    calls: list[CallRecord], zone: str, by: tuple[str, ...], since: int, until: int
) -> dict[Any, Any]:
    """What usage must answer, counted call by call on the wall clock of the zone."""
    found: dict[Any, list[int]] = {}
    for one in calls:
        if not since <= one.finished_at < until:
            continue
        local = datetime.fromtimestamp(one.finished_at / 1000, ZoneInfo(zone))
        name = []
        for word in by:
            if word == "day":
                name.append(local.strftime("%Y-%m-%d"))
            elif word == "month":
                name.append(local.strftime("%Y-%m"))
            elif word == "hour":
                name.append(local.strftime("%Y-%m-%d %H %z"))
            else:
                value = {"account": one.account_id, "project": one.project_id, "key": one.key_id,
                         "model": one.model, "channel": one.channel_id or ""}[word]  # fmt: skip
                name.append(value)
        used = one.usage
        adds = [
            1, one.outcome == "failed", one.charged, one.absorbed, 0, one.cost or 0, one.cost is None,
            used["input"] + used["cache_read"] + used["audio_in"], used["cache_read"],
            used["output"] + used["reasoning"],
        ]  # fmt: skip
        total = found.setdefault(tuple(name), [0] * len(MEASURES))
        total[:] = [a + b for a, b in zip(total, adds, strict=True)]
    return found


def shown(found: list[Any], zone: str, by: tuple[str, ...]) -> dict[Any, Any]:
    answer = {}
    forms = {"day": "%Y-%m-%d", "month": "%Y-%m", "hour": "%Y-%m-%d %H %z"}
    columns = {
        "account": "account_id",
        "project": "project_id",
        "key": "key_id",
        "model": "model",
        "channel": "channel_id",
    }
    for one in found:
        name = []
        for word in by:
            if word in forms:
                local = datetime.fromtimestamp(one.at / 1000, ZoneInfo(zone))
                name.append(local.strftime(forms[word]))
            else:
                name.append(getattr(one, columns[word]))
        assert tuple(name) not in answer
        answer[tuple(name)] = [getattr(one, measure) for measure in MEASURES]
    return answer


@pytest.fixture
async def empty(store: Store) -> Store:
    """The store without what other tests of this module have put there."""

    def clear(conn: Connection) -> None:
        for table in (schema.call, schema.rollup, schema.rollup_sum):
            conn.execute(delete(table))

    await store.write(clear)
    return store


ZONES = (
    "UTC",
    "Asia/Kathmandu",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Africa/Cairo",
)
QUESTIONS = ((), ("day",), ("month",), ("day", "key"), ("month", "model"), ("day", "account", "channel"),
             ("hour", "project"), ("key", "model"), ("day", "key", "model"), ("hour", "key", "model"), ("account", "project", "key", "model", "channel"))  # fmt: skip


async def test_every_zone_and_question_is_answered_as_if_calls_were_counted(empty: Store) -> None:
    calls = some_calls(1500, 70)
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + 70 * DAY))
    since, until = BEGIN + 3 * QUARTER_MS, BEGIN + 69 * DAY + 5 * QUARTER_MS
    for zone in ZONES:
        for by in QUESTIONS:
            found = await empty.read(partial(usage, since=since, until=until, by=by, zone=zone))
            assert shown(found, zone, by) == expected(calls, zone, by, since, until), (zone, by)


NARROWED = [
    ({"account": "acc_a"}, ("day",)),
    ({"key": "key_b1"}, ("model",)),
    ({"model": "m2"}, ("day",)),
    ({"channel": "ch1", "account": "acc_b"}, ("month", "key")),
    ({"project": "prj_a", "model": "m1", "channel": ""}, ()),
]


async def test_questions_are_narrowed_down(empty: Store) -> None:
    calls = some_calls(600, 40, seed=2)
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + 40 * DAY))
    for only, by in NARROWED:
        facts = {
            "account": "account_id", "key": "key_id", "model": "model", "channel": "channel_id", "project": "project_id",
        }  # fmt: skip
        some = [
            one
            for one in calls
            if all((getattr(one, facts[name]) or "") == value for name, value in only.items())
        ]
        found = await empty.read(
            partial(usage, since=BEGIN, until=BEGIN + 40 * DAY, by=by, zone="Asia/Kolkata", **only)
        )
        assert shown(found, "Asia/Kolkata", by) == expected(
            some, "Asia/Kolkata", by, BEGIN, BEGIN + 40 * DAY
        ), only
        assert some


async def everything_agrees(store: Store) -> None:
    """What is above the quarters is their sum, in every span and grain."""
    columns = ", ".join(f"COALESCE(sum({name}), 0)" for name in MEASURES)
    whole = await rows_of(store, f"SELECT {columns} FROM rollup")
    for span, grain in STORED:
        found = await rows_of(
            store, f"SELECT {columns} FROM rollup_sum WHERE span = '{span}' AND grain = '{grain}'"
        )
        assert found == whole, (span, grain)


async def test_rolling_up_again_or_in_parts_changes_nothing(empty: Store) -> None:
    calls = some_calls(300, 2, seed=3)
    until = BEGIN + 2 * DAY
    dice = random.Random(3)
    dice.shuffle(calls)
    for at in range(0, 300, 60):
        part = calls[at : at + 60]
        await empty.write(partial(put_calls, calls=part))
        since = BEGIN + dice.randrange(DAY)
        await empty.write(partial(fill, since=since, until=until))
    await empty.write(lambda conn: fill(conn, BEGIN, until))
    assert await empty.write(lambda conn: fill(conn, BEGIN, until)) == 0
    found = await empty.read(partial(usage, since=BEGIN, until=until, by=("day", "key")))
    assert shown(found, "UTC", ("day", "key")) == expected(calls, "UTC", ("day", "key"), BEGIN, until)
    await everything_agrees(empty)


async def test_a_call_that_comes_later_than_anybody_waits_is_found_by_its_count(empty: Store) -> None:
    calls = some_calls(100, 1, seed=4)
    await empty.write(lambda conn: put_calls(conn, calls[:-1]))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + DAY))
    assert await empty.read(lambda conn: miscounted(conn, BEGIN, BEGIN + DAY)) == []
    await empty.write(lambda conn: put_calls(conn, calls[-1:]))
    late = quarter(calls[-1].finished_at)
    assert await empty.read(lambda conn: miscounted(conn, BEGIN, BEGIN + DAY)) == [late]
    assert await empty.write(lambda conn: fill(conn, late, late + QUARTER_MS)) == 1
    assert await empty.read(lambda conn: miscounted(conn, BEGIN, BEGIN + DAY)) == []
    await everything_agrees(empty)


async def test_a_row_whose_calls_are_gone_disappears_with_its_sums(empty: Store) -> None:
    await empty.write(lambda conn: put_calls(conn, some_calls(20, 1, seed=5)))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + DAY))
    assert await empty.read(lambda conn: first_after(conn, BEGIN)) is not None
    await empty.write(lambda conn: conn.execute(delete(schema.call)))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + DAY))
    assert await rows_of(empty, "SELECT count(*) FROM rollup") == [(0,)]
    await everything_agrees(empty)
    assert await empty.read(partial(usage, since=BEGIN, until=BEGIN + DAY, by=("key",))) == []
    assert await empty.read(lambda conn: first_after(conn, BEGIN)) is None


# -- periods -----------------------------------------------------------------------------------------


def test_pieces_cover_the_time_once_and_use_the_longest_spans() -> None:
    year = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1000
    whole = pieces(year, BEGIN, None, "UTC")
    assert [one.span for one in whole] == ["month"]
    assert [one.span for one in pieces(year - DAY, BEGIN + DAY, None, "UTC")] == ["day", "month", "day"]
    assert [one.span for one in pieces(year - 1, BEGIN + 1, None, "UTC")] == ["quarter", "month", "quarter"]
    for zone in ZONES:
        for unit in ("hour", "day", "month", None):
            found = pieces(BEGIN + 1, BEGIN + 45 * DAY, unit, zone)
            assert found[0].since == BEGIN
            assert found[-1].until == BEGIN + 45 * DAY
            assert all(a.until == b.since for a, b in zip(found, found[1:], strict=False)), (zone, unit)
            assert all(one.since < one.until for one in found)


def test_days_of_daylight_saving_have_23_and_25_hours() -> None:
    def hours(zone: str, year: int, month: int, day: int) -> float:
        local = datetime(year, month, day, 12, tzinfo=ZoneInfo(zone))
        at = int(local.timestamp()) * 1000
        found = [one for one in pieces(at - 3 * DAY, at + 3 * DAY, "day", zone) if one.period <= at]
        period = found[-1].period
        own = [one for one in pieces(at - 3 * DAY, at + 3 * DAY, "day", zone) if one.period == period]
        return sum(one.until - one.since for one in own) / 3_600_000

    assert hours("Europe/Berlin", 2026, 3, 29) == 23
    assert hours("Europe/Berlin", 2026, 10, 25) == 25
    assert hours("Australia/Lord_Howe", 2026, 4, 5) == 24.5
    assert hours("Africa/Cairo", 2026, 4, 24) == 23  # its clocks skip midnight itself


@pytest.mark.parametrize(
    ("since", "until", "unit", "zone"),
    [
        (5, 5 - QUARTER_MS, None, "UTC"),
        (0, 0, None, "UTC"),
        (-1, 10, None, "UTC"),
        (0, 10**18, None, "UTC"),
        (0, BEGIN, "hour", "UTC"),
        (BEGIN, BEGIN + DAY, "day", "Mars/Olympus"),
        (BEGIN, BEGIN + DAY, "day", "../../etc/passwd"),
        (BEGIN, BEGIN + DAY, "day", ""),
        (BEGIN, BEGIN + DAY, "day", "a" * 5000),
    ],
)
def test_impossible_times_are_refused(since: int, until: int, unit: Any, zone: str) -> None:
    with pytest.raises(BadPeriod):
        pieces(since, until, unit, zone)


async def test_two_units_of_time_are_refused(store: Store) -> None:
    with pytest.raises(BadPeriod, match="one of hour"):
        await store.read(partial(usage, since=0, until=DAY, by=("day", "hour")))


def test_every_zone_there_is_begins_its_days_at_a_quarter() -> None:
    import zoneinfo

    for name in sorted(zoneinfo.available_timezones()):
        zone = periods.zone_of(name)
        for month in (1, 7):
            offset = datetime(2026, month, 1, tzinfo=zone).utcoffset()
            assert offset is not None
            assert offset.total_seconds() % 900 == 0, name


# -- refunds -----------------------------------------------------------------------------------------


async def test_refunds_are_counted_once_when_they_were_made_with_what_their_call_was(empty: Store) -> None:
    from tests.support.ledger import held_and_settled, wallet_of

    from tollway.store.base import Transfer

    wallet = await wallet_of(empty, 1000)
    owner = (await rows_of(empty, "SELECT owner FROM ledger_account WHERE id = :w", w=wallet))[0][0]
    first, _ = await held_and_settled(empty, wallet, 100, 90)
    second, _ = await held_and_settled(empty, wallet, 100, 80)
    for call_id, amount in ((first, 10), (first, 5), (second, 3)):
        transfer = Transfer(
            id=new_id(), kind="refund", wallet=wallet, amount=amount, at=BEGIN + 1, hold_id=call_id
        )
        await empty.ledger.transfer(transfer)
    await empty.write(lambda conn: conn.execute(delete(schema.call).where(schema.call.c.id == second)))
    assert await empty.write(lambda conn: add_refunds(conn, 0, 2)) == 2
    assert await empty.write(lambda conn: add_refunds(conn, 0, 50)) == 1
    assert await empty.write(lambda conn: add_refunds(conn, 0, 50)) == 0
    found = await empty.read(partial(usage, since=BEGIN, until=BEGIN + DAY, by=("account", "key")))
    mine = {(one.account_id, one.key_id): (one.refunded, one.calls) for one in found}
    assert mine == {("acc", "key"): (15, 0), (owner, ""): (3, 0)}
    # Filling the quarter they are in leaves them alone.
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + DAY))
    assert sum(one.refunded for one in await empty.read(partial(usage, since=BEGIN, until=BEGIN + DAY))) == 18
    await everything_agrees(empty)
    assert len(await rows_of(empty, "SELECT entry_id FROM rolled_refund")) == 3
