"""Usage, lists of calls, alerts and the trying of keys as operations: what they show, and what they refuse."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.support.admin import Clock, do, instance, ready, refused
from tests.support.ledger import hold_of, settlement_of

from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.store import accounts, audit

NOW = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1000
HOUR, DAY = 3_600_000, 86_400_000


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


async def call(admin, key, at, charge, **facts):
    """A call that `key` made, which finished at a time and was charged so many micro-credits."""
    made = await do(admin, "key.show", key=key)
    found = await admin.read(lambda conn: accounts.account(conn, "main"))
    details = made["details"]
    request = hold_of(found.wallet, min(charge, 100), created_at=at - 500)
    await admin.store.ledger.hold(request)
    facts = {"account_id": found.id, "project_id": "prj", "key_id": details["id"], **facts}
    done = settlement_of(request.id, charge, created_at=at - 500, finished_at=at, **facts)
    await admin.store.ledger.settle(done)
    return request.id


@pytest.fixture
async def used(admin):
    for name in ("a", "b"):
        await do(admin, "key.create", name=name)
    return [
        await call(admin, "a", NOW - 40 * DAY, 1),
        await call(admin, "a", NOW - DAY, 20, model="m1"),
        await call(
            admin, "b", NOW - HOUR, 30, model="m2", outcome="failed", status=502, error_code="upstream_error"
        ),
        await call(admin, "a", NOW - HOUR, 140, model="m2"),
    ]


# -- usage -----------------------------------------------------------------------------------------


async def shown(admin, *names, **asked):
    found = await do(admin, "usage.show", **asked)
    return [tuple(row[name] for name in names) for row in found["rows"]]


@pytest.mark.usefixtures("used")
async def test_usage_is_shown_by_day_and_in_the_zone_that_is_named(admin):
    month = [("2026-11-20", 1, Decimal("0.00002")), ("2026-11-21", 2, Decimal("0.00017"))]
    assert await shown(admin, "period", "calls", "charged") == month
    # At noon in UTC it is the next day in the far east of the calendar.
    east = [("2026-11-21", 1), ("2026-11-22", 2)]
    assert await shown(admin, "period", "calls", zone="Pacific/Kiritimati", since="2026-11-21") == east
    assert await shown(admin, "period", "calls", by=["month"], since="2026-10") == [
        ("2026-10", 1),
        ("2026-11", 3),
    ]
    assert await shown(admin, "period", "calls", by=["hour"], since="3h") == [("2026-11-21 11:00", 2)]
    total = (await do(admin, "usage.show", since="2026-10-01"))["total"]
    assert (total["calls"], total["failures"], total["charged"]) == (4, 1, Decimal("0.000191"))


@pytest.mark.usefixtures("used")
async def test_usage_is_shown_by_names_and_narrowed_down(admin):
    assert await shown(admin, "key", "model", "calls", by=["key", "model"]) == [
        ("a", "m2", 1), ("b", "m2", 1), ("a", "m1", 1),
    ]  # fmt: skip
    assert await shown(admin, "key", "calls", by=["key"], key="b", account="main") == [("b", 1)]
    assert await shown(admin, "account", "calls", by=["account"]) == [("main", 3)]
    assert await shown(admin, "calls", by=[], account="main") == [(3,)]
    assert await shown(admin, "period", until="2026-11-20") == [("2026-11-20",)]
    assert await shown(admin, "period", since="2026-11-21T11:00", until="2026-11-21T11:00") == [
        ("2026-11-21",)
    ]
    await do(admin, "account.create", name="idle")
    assert (await do(admin, "usage.show", account="idle"))["total"]["calls"] == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"by": ["dya"]},
        {"by": ["day", "hour"]},
        {"by": ["key", "key"]},
        {"since": "yesterday"},
        {"since": "2026-02-30"},
        {"since": "2026-11-22"},
        {"since": "2026-11-02", "until": "2026-11-01"},
        {"zone": "Europe/Nowhere"},
        {"by": ["hour"], "since": "2020-01-01"},
    ],
)
async def test_impossible_questions_are_refused(admin, asked):
    assert (await refused(admin, "usage.show", **asked)).kind == "invalid"


@pytest.mark.parametrize(
    "asked", [{"key": "nonesuch"}, {"account": "nonesuch"}, {"model": "nonesuch"}, {"project": "x"}]
)
async def test_what_does_not_exist_is_not_found(admin, asked):
    assert (await refused(admin, "usage.show", **asked)).kind == "not_found"


# -- calls -----------------------------------------------------------------------------------------


async def test_calls_are_listed_newest_first_page_by_page(admin, used):
    old, first, second, last = used
    page = await do(admin, "call.list", limit=3)
    assert [one["id"] for one in page["calls"]] == [last, second, first]
    assert (page["has_more"], page["next"]) == (True, first)
    rest = await do(admin, "call.list", before=page["next"])
    assert ([one["id"] for one in rest["calls"]], rest["next"]) == ([old], None)
    for asked, expected in (
        ({"key": "a"}, [last, first, old]),
        ({"key": "a", "model": "m2"}, [last]),
        ({"outcome": "failed"}, [second]),
        ({"account": "main", "before": second}, [first, old]),
    ):
        assert [one["id"] for one in (await do(admin, "call.list", **asked))["calls"]] == expected, asked
    failed = (await do(admin, "call.list", outcome="failed"))["calls"][0]
    assert (failed["key"], failed["status"], failed["error"], failed["total_ms"]) == (
        "b",
        502,
        "upstream_error",
        500,
    )
    for impossible in ({"limit": 0}, {"limit": 10**6}, {"outcome": "fialed"}):
        assert (await refused(admin, "call.list", **impossible)).kind == "invalid"


# -- keys ------------------------------------------------------------------------------------------


async def test_a_key_is_shown_with_what_it_spent_by_period_and_has_left(admin, used, clock):
    await do(admin, "key.limit", key="a", budget="0.0002")
    found = await do(admin, "key.show", key="a")
    usage = found["usage"]
    assert (found["calls"], found["spent"], found["last_used_at"]) == (
        3,
        Decimal("0.000161"),
        NOW - HOUR - 500,
    )
    assert [usage[f"spent_{name}"] for name in ("today", "this_week", "this_month")] == [
        Decimal("0.00014"), Decimal("0.00016"), Decimal("0.00016"),
    ]  # fmt: skip
    assert (found["budget"]["limit"], found["budget"]["remaining"]) == (Decimal("0.0002"), Decimal("0.0002"))
    assert found["project_budget"] is None
    assert used


async def test_a_key_is_tried_without_a_call(admin):
    await do(
        admin, "key.create", name="k", models=["sandbox-chat", "*-embed"], networks=["10.0.0.0/8"], budget=0
    )

    async def tried(**asked):
        found = await do(admin, "key.test", key="k", **asked)
        assert found["ok"] is all(one["verdict"] == "ok" for one in found["checks"])
        return {one["check"]: one["code"] for one in found["checks"]}

    assert await tried() == {"key": None, "credits": None, "budget": "key_budget_exceeded"}
    await do(admin, "key.limit", key="k", budget=None)
    assert await tried(model="sandbox-chat", ip="10.1.2.3") == {"key": None, "model": None, "credits": None}
    assert (await tried(ip="192.0.2.1"))["key"] == "ip_not_allowed"
    assert (await tried(model="sandbox-echo"))["model"] == "model_not_allowed"
    assert (await tried(model="nonesuch"))["model"] == "model_not_found"
    await do(admin, "model.disable", name="sandbox-chat")
    assert (await tried(model="sandbox-chat"))["model"] == "model_not_available"
    await do(admin, "account.suspend", account="main")
    assert (await tried())["key"] == "account_suspended"
    await do(admin, "account.resume", account="main")
    await do(admin, "key.revoke", key="k")
    assert (await tried())["key"] == "key_revoked"
    assert (await refused(admin, "key.test", key="kk")).kind == "not_found"
    assert (await refused(admin, "account.suspend", account="nobody")).kind == "not_found"


async def test_suspending_twice_is_noted_once(admin):
    for _ in range(2):
        assert (await do(admin, "account.suspend", account="main"))["status"] == "suspended"
    rows = await admin.read(lambda conn: audit.page(conn, limit=100))
    assert [row.action for row in rows].count("account.suspended") == 1


# -- alerts ----------------------------------------------------------------------------------------


async def test_alerts_are_listed_until_they_are_acknowledged(admin, clock):
    runner = Runner(Tools(store=admin.store, clock=clock, settings=admin.settings))
    for name in ("low", "other"):
        await do(admin, "account.create", name=name)
        await do(admin, "credits.alert", below=10, account=name)
    await runner.run("keep-credits")
    clock.now += DAY
    await do(admin, "credits.grant", amount=50, account="low")
    await runner.run("keep-credits")
    found = await do(admin, "alert.list")
    assert [(one["account"], one["kind"], one["available"], one["below"]) for one in found][0] == (
        "low", "balance.restored", 50, 10,
    )  # fmt: skip
    assert sorted(one["account"] for one in found) == ["low", "low", "other"]
    newest = found[0]["id"]
    assert (await do(admin, "alert.ack", alert=newest))["acknowledged"] == 1
    assert (await do(admin, "alert.ack", alert=newest))["acknowledged"] == 0
    assert len(await do(admin, "alert.list", account="low")) == 1
    assert (await do(admin, "alert.ack", alert="all", account="low"))["acknowledged"] == 1
    assert [one["account"] for one in await do(admin, "alert.list")] == ["other"]
    every = await do(admin, "alert.list", seen=True)
    assert [one["seen_by"] for one in every if one["account"] == "low"] == ["alice", "alice"]
    assert (await refused(admin, "alert.ack", alert="balance.lwo:5:1")).kind == "not_found"
    assert (await refused(admin, "alert.list", limit=0)).kind == "invalid"


# -- refunds ---------------------------------------------------------------------------------------


async def test_what_exceeded_a_hold_is_refunded_with_the_rest(admin, used):
    *_, dear = used
    left = await do(admin, "credits.refund", call=dear, amount="0.00011")
    assert left["left"] == Decimal("0.00003")
    found = await refused(admin, "credits.refund", call=dear, amount="0.000031")
    assert (found.kind, "charged 0.00014, of which 0.00011" in found.why) == ("refused", True)
    whole = await do(admin, "credits.refund", call=dear)
    assert (whole["amount"], whole["left"]) == (Decimal("0.00003"), 0)
    assert (await refused(admin, "credits.refund", call=dear)).kind == "refused"
    receipt = (await do(admin, "call.explain", call=dear))["receipt"]
    assert (receipt["charged"], receipt["refunded"], receipt["net"]) == (
        Decimal("0.00014"),
        Decimal("0.00014"),
        0,
    )
    assert (await do(admin, "usage.show", by=[]))["rows"][0]["refunded"] == Decimal("0.00014")
