"""Rollups agree with the calls, whatever is settled late, and answer for days of any time zone."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs
from sqlalchemy import Connection, delete, insert
from tests.support.ledger import call_of, new_id, rows_of

from tollway.store import marks, records, schema
from tollway.store.base import CallRecord, Store
from tollway.store.retention import prune
from tollway.store.rollups import spans, top, usage
from tollway.store.rollups.fill import add_refunds, differing, miscounted, pending, portions
from tollway.store.rollups.fill import sum_up as add_calls
from tollway.store.rollups.sums import BUILT, MEASURES, QUARTER_MS, SPANS, STORED, built, quarter, replace

BEGIN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000


def put_calls(conn: Connection, calls: list[CallRecord]) -> None:
    rows = [
        dict(zip(records.CALL_COLUMNS, records.call_row(one, one.charged, one.absorbed), strict=True))
        for one in calls
    ]
    conn.execute(insert(schema.call), rows)


def fill(conn: Connection, since: int, until: int) -> int:
    """Make quarters agree with their calls, and build every span that was over then."""
    end = until + -until % QUARTER_MS
    changed = differing(conn, quarter(since), end)
    for portion in portions(changed, 50):
        replace(conn, portion)
    marks.advance(conn, marks.ROLLED, end)
    build(conn)
    return len(changed)


def build(conn: Connection) -> None:
    """Build the spans that are over, as the job does."""
    for span in reversed(SPANS):
        while (draft := spans.drafted(conn, span)) is not None:
            spans.keep(conn, draft.rows)
            spans.finish(conn, draft)


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
        for table in (schema.call, schema.rollup, schema.rollup_sum, schema.mark):
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
    """What is above the quarters is their sum, in every span and grain, as far as it is built."""
    columns = ", ".join(f"COALESCE(sum({name}), 0)" for name in MEASURES)
    until = await store.read(built)
    for span, grain in STORED:
        whole = await rows_of(store, f"SELECT {columns} FROM rollup WHERE bucket < {until[span]}")
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
    await empty.write(lambda conn: conn.execute(delete(schema.call)))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + DAY))
    assert await rows_of(empty, "SELECT count(*) FROM rollup") == [(0,)]
    await everything_agrees(empty)
    assert await empty.read(partial(usage, since=BEGIN, until=BEGIN + DAY, by=("key",))) == []


# -- the job's way: calls summed once, longer spans built once -----------------------------------------


def sum_up(conn: Connection, until: int, most: int) -> int:
    """Sum calls as the job does, `most` of them in one step; returns how many steps that took."""
    steps = 0
    while (upto := pending(conn, most, until)) > marks.value(conn, marks.SUMMED):
        add_calls(conn, upto)
        steps += 1
    return steps


async def test_calls_summed_a_few_at_a_time_are_each_counted_once(empty: Store) -> None:
    calls = some_calls(400, 2, seed=6)
    calls += [replaced(one, finished_at=BEGIN + 7) for one in some_calls(50, 1, seed=7)]
    await empty.write(lambda conn: put_calls(conn, calls))
    assert await empty.write(lambda conn: sum_up(conn, BEGIN + DAY, 30)) >= 5
    assert await empty.write(lambda conn: sum_up(conn, BEGIN + 2 * DAY, 7)) >= 20
    assert await empty.write(lambda conn: add_calls(conn, BEGIN + DAY)) == 0, "an older time changes nothing"
    assert await empty.read(lambda conn: differing(conn, BEGIN, BEGIN + 2 * DAY)) == {}
    found = await empty.read(
        partial(usage, since=BEGIN, until=BEGIN + 2 * DAY, by=("hour", "key", "channel"))
    )
    by = ("hour", "key", "channel")
    assert shown(found, "UTC", by) == expected(calls, "UTC", by, BEGIN, BEGIN + 2 * DAY)


def replaced(call: CallRecord, **facts: Any) -> CallRecord:
    return structs.replace(call, id=new_id(), **facts)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_order_of_work_the_answer_is_that_of_counting(empty: Store, seed: int) -> None:
    """Calls come, late ones too; some are summed, some spans built, some calls deleted: chance decides."""
    dice = random.Random(f"order {seed}")
    waiting = sorted(some_calls(500, 75, seed=50 + seed), key=lambda one: one.finished_at)
    there: list[CallRecord] = []
    now = BEGIN
    while waiting or now < BEGIN + 80 * DAY:
        now += dice.randrange(1, 9 * DAY)
        come = [one for one in waiting if one.finished_at < now and dice.random() < 0.95]
        waiting = [one for one in waiting if one not in come]
        there += come
        if come:
            await empty.write(partial(put_calls, calls=come))
        await empty.write(partial(sum_up, until=now, most=dice.randrange(1, 60)))
        await empty.write(partial(mended, until=now))
        if dice.random() < 0.8:
            complete = quarter(now - dice.randrange(5 * DAY))
            await empty.write(partial(marks.advance, topic=marks.ROLLED, number=complete))
            await empty.write(build)
        if dice.random() < 0.5:
            await empty.write(partial(prune, before=now - 20 * DAY, most=dice.randrange(1, 80)))
        since = BEGIN + quarter(dice.randrange(now - BEGIN))
        until = now + -now % QUARTER_MS
        zone, by = dice.choice(ZONES), dice.choice(QUESTIONS)
        if by[:1] == ("hour",):
            since = max(since, until - 9 * DAY)
        found = await empty.read(partial(usage, since=since, until=until, by=by, zone=zone))
        assert shown(found, zone, by) == expected(there, zone, by, since, until), (now, zone, by)
        only = {"account": "acc_a", "model": "m1"}
        found = await empty.read(partial(usage, since=since, until=until, by=("day",), zone=zone, **only))
        mine = [one for one in there if (one.account_id, one.model) == ("acc_a", "m1")]
        assert shown(found, zone, ("day",)) == expected(mine, zone, ("day",), since, until), (now, zone)
        await everything_agrees(empty)
    assert await empty.read(partial(marks.value, topic=BUILT["month"])) > BEGIN
    assert len(await rows_of(empty, "SELECT id FROM call")) < len(there)


def mended(conn: Connection, until: int) -> None:
    """What the job does about calls that came after their time was summed."""
    for bucket in miscounted(conn, 0, until):
        replace(conn, differing(conn, bucket, min(bucket + QUARTER_MS, until)))


async def test_long_questions_are_answered_from_what_is_built(empty: Store) -> None:
    calls = some_calls(300, 70, seed=8)
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + 75 * DAY))
    # Without the quarters there is nothing else to answer from.
    await empty.write(lambda conn: conn.execute(delete(schema.rollup)))
    for by in (("month", "key", "model"), ("day", "model"), ("month", "channel", "key")):
        found = await empty.read(partial(usage, since=BEGIN, until=BEGIN + 75 * DAY, by=by))
        assert shown(found, "UTC", by) == expected(calls, "UTC", by, BEGIN, BEGIN + 75 * DAY), by


async def test_a_span_is_not_read_before_all_of_it_is_written(empty: Store) -> None:
    calls = some_calls(200, 3, seed=9)
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: sum_up(conn, BEGIN + 3 * DAY, 1000))
    await empty.write(partial(marks.put, topic=marks.ROLLED, number=BEGIN + 3 * DAY))
    draft = await empty.read(partial(spans.drafted, span="quarter"))
    assert draft is not None
    assert len(draft.rows) > 10
    # The process dies between two portions.
    await empty.write(partial(spans.keep, rows=draft.rows[:10]))
    question = partial(usage, since=BEGIN, until=BEGIN + 3 * DAY, by=("day", "model"))
    answer = expected(calls, "UTC", ("day", "model"), BEGIN, BEGIN + 3 * DAY)
    assert shown(await empty.read(question), "UTC", ("day", "model")) == answer
    gone = [await empty.write(partial(spans.clear, span="quarter", most=4)) for _ in range(4)]
    assert gone == [4, 4, 2, 0]
    await empty.write(build)
    assert await empty.write(partial(spans.clear, span="quarter", most=4)) == 0
    assert shown(await empty.read(question), "UTC", ("day", "model")) == answer
    await everything_agrees(empty)


async def test_a_time_without_calls_is_built_at_once(empty: Store) -> None:
    calls = some_calls(5, 1, seed=10)
    calls.append(replaced(calls[0], finished_at=BEGIN + 3000 * DAY))
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: sum_up(conn, BEGIN + 3001 * DAY, 1000))
    await empty.write(partial(marks.put, topic=marks.ROLLED, number=BEGIN + 3001 * DAY))
    drafts = 0
    while (draft := await empty.read(partial(spans.drafted, span="quarter"))) is not None:
        await empty.write(partial(spans.keep, rows=draft.rows))
        await empty.write(partial(spans.finish, draft=draft))
        drafts += 1
    assert drafts <= 8
    found = await empty.read(partial(usage, since=BEGIN, until=BEGIN + 3001 * DAY))
    assert [one.calls for one in found] == [6]


async def test_the_first_of_an_answer_are_those_that_were_charged_most(empty: Store) -> None:
    await empty.write(lambda conn: put_calls(conn, some_calls(200, 2, seed=11)))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + 2 * DAY))
    ask = partial(usage, since=BEGIN, until=BEGIN + 2 * DAY, by=("day", "key", "model"))
    whole = await empty.read(ask)
    first = partial(top, most=7, since=BEGIN, until=BEGIN + 2 * DAY, by=("day", "key", "model"), only={})
    assert await empty.read(first) == whole[:7]
    assert whole[0].charged == max(one.charged for one in whole if one.at == whole[0].at)


async def test_a_key_is_found_without_its_account_and_a_stranger_has_used_nothing(empty: Store) -> None:
    calls = some_calls(100, 2, seed=12)
    await empty.write(lambda conn: put_calls(conn, calls))
    await empty.write(lambda conn: fill(conn, BEGIN, BEGIN + 2 * DAY))
    ask = partial(usage, since=BEGIN, until=BEGIN + 2 * DAY)
    found = await empty.read(partial(ask, key="key_a1"))
    assert [one.calls for one in found] == [sum(one.key_id == "key_a1" for one in calls)]
    assert await empty.read(partial(ask, key="key_a1", account="acc_b")) == []
    assert await empty.read(partial(ask, account="acc_zz", by=("day", "model"))) == []


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
