"""Codes, caps, overdrafts, alerts and expiring grants as operations, and the job that keeps them."""

from decimal import Decimal

import pytest
from sqlalchemy import text
from tests.support.admin import Clock, do, instance, ready, refused
from tests.support.servers import eventually

from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.store import alerts, audit
from tollway.store.base import HoldRequest
from tollway.store.leases import HOT_HOLDS, Leases

DAY = 86_400_000


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


@pytest.fixture
def job(admin, clock):
    runner = Runner(Tools(store=admin.store, clock=clock, settings=admin.settings))

    async def run():
        return (await runner.run("keep-credits")).details

    return run


async def available(admin, account="main"):
    return (await do(admin, "credits.balance", account=account))["available"]


IMPOSSIBLE = [
    ("code.create", {"amount": 0}),
    ("code.create", {"amount": -1}),
    ("code.create", {"amount": 1, "count": 0}),
    ("code.create", {"amount": 1, "count": 10_001}),
    ("code.create", {"amount": 1, "credit_days": 0}),
    ("code.create", {"amount": 1, "expires_in": 0}),
    ("code.create", {"amount": 1, "note": "a\nb"}),
    ("code.create", {"amount": "0.0000001"}),
    ("credits.grant", {"amount": 1, "expires_in": 0}),
    ("credits.adjust", {"amount": 0, "note": "nothing"}),
    ("credits.adjust", {"amount": 1, "note": " "}),
    ("credits.adjust", {"amount": 1}),
    ("credits.adjust", {"amount": "-0.0000001", "note": "too fine"}),
    ("credits.adjust", {"amount": "-1e30", "note": "too much"}),
    ("credits.adjust", {"amount": -1, "note": "a\nb"}),
    ("credits.adjust", {"amount": -1, "note": "x", "id": ""}),
    ("credits.overdraft", {"amount": -1}),
    ("credits.alert", {"below": -1}),
]


@pytest.mark.parametrize(("operation", "arguments"), IMPOSSIBLE)
async def test_impossible_arguments_are_refused(admin, operation, arguments):
    assert (await refused(admin, operation, **arguments)).kind == "invalid"


async def test_an_adjustment_corrects_a_balance_once_and_says_why(admin):
    taken = await do(admin, "credits.adjust", amount="-400.5", note="granted twice", id="typo")
    assert (taken["amount"], taken["balance"]["available"]) == (Decimal("-400.5"), Decimal("599.5"))
    assert (await do(admin, "credits.adjust", amount="-400.5", note="granted twice", id="typo")) == taken
    assert (await do(admin, "credits.adjust", amount=1, note="back"))["balance"]["available"] == Decimal(
        "600.5"
    )

    # The same id with other terms is another adjustment, which is not made.
    for amount in ("400.5", "-1"):
        assert (await refused(admin, "credits.adjust", amount=amount, note="x", id="typo")).kind == "refused"
    refusal = await refused(admin, "credits.adjust", amount=-601, note="too much")
    assert (refusal.kind, "600.5 available" in refusal.why) == ("refused", True)
    assert await available(admin) == Decimal("600.5")

    page = await do(admin, "credits.ledger", limit=2)
    shown = [(one["kind"], one["amount"], one["note"]) for one in page["entries"]]
    assert shown == [("adjust", 1, "back"), ("adjust", Decimal("-400.5"), "granted twice")]
    noted = [row.after["amount"] for row in await admin.read(audit.page) if row.action == "credits.adjust"]
    assert sorted(noted) == [-400_500_000, 1_000_000]
    assert (await do(admin, "credits.verify"))["ok"]


async def test_what_is_held_for_calls_to_come_can_be_taken_and_what_calls_hold_cannot(admin):
    plain = admin.store.ledger
    admin.store.ledger = leases = Leases(plain)
    try:
        (wallet,) = await admin.read(
            lambda conn: (
                conn.execute(text("SELECT id FROM ledger_account WHERE kind = 'wallet'")).scalars().all()
            )
        )
        for at in range(2 * HOT_HOLDS):
            call = f"call_{at}"
            hold = HoldRequest(
                id=call,
                wallet=wallet,
                budget=None,
                amount=1_000_000,
                price_version=0,
                created_at=at,
                expires_at=10**13,
            )
            await leases.hold(hold)
            await eventually(lambda: not leases._tasks, "a lease to be taken")
        assert leases._pools[wallet].capacity > 0
        assert await refused(admin, "credits.adjust", amount=-1000, note="all of it")
        found = await do(
            admin, "credits.adjust", amount=-1000 + 2 * HOT_HOLDS, note="all but what calls hold"
        )
        assert (found["balance"]["available"], found["balance"]["held"]) == (0, 2 * HOT_HOLDS)
    finally:
        await leases.close()
        admin.store.ledger = plain


async def test_codes_are_made_redeemed_once_and_voided(admin):
    await do(admin, "account.create", name="buyer")
    made = await do(admin, "code.create", amount="2.5", count=3, note="fair")
    assert len(set(made["codes"])) == 3
    one, two, three = made["codes"]
    # However it is typed.
    found = await do(admin, "credits.redeem", code=f" {one.lower().replace('-', ' ')} ", account="buyer")
    assert found["amount"] == Decimal("2.5")
    assert await available(admin, "buyer") == Decimal("2.5")
    assert (await refused(admin, "credits.redeem", code=one, account="buyer")).kind == "conflict"
    assert (await refused(admin, "credits.redeem", code=one)).kind == "not_found"
    assert (await refused(admin, "credits.redeem", code="AAAA-BBBB")).kind == "not_found"
    assert (await do(admin, "code.void", batch=made["batch"]))["voided"] == 2
    assert (await refused(admin, "credits.redeem", code=two, account="buyer")).kind == "not_found"
    (batch,) = await do(admin, "code.list")
    assert (batch["codes"], batch["redeemed"], batch["voided"], batch["open"]) == (3, 1, 2, 0)
    assert (await refused(admin, "code.void", batch="bat_nothing")).kind == "not_found"
    (entry,) = (await do(admin, "credits.ledger", account="buyer"))["entries"]
    assert (entry["kind"], entry["note"]) == ("grant", "fair")


async def test_no_code_is_in_the_database_or_the_audit_log(admin, tmp_path):
    made = await do(admin, "code.create", amount=1, count=2)
    rows = await admin.read(lambda conn: [str(row) for row in audit.page(conn, before=None, limit=100)])
    stored = await admin.read(
        lambda conn: [str(tuple(row)) for row in conn.exec_driver_sql("SELECT * FROM code")]
    )
    for code in made["codes"]:
        for form in (code, code.replace("-", "")):
            assert form not in "".join([*rows, *stored])


async def test_a_codes_time_and_its_credits_time(admin, clock, job):
    made = await do(admin, "code.create", amount=5, count=2, credit_days=10, expires_in=3600)
    before = await available(admin)
    await do(admin, "credits.redeem", code=made["codes"][0])
    clock.now += 3_600_000
    assert (await refused(admin, "credits.redeem", code=made["codes"][1])).kind == "not_found"
    clock.now += 10 * DAY - 3_600_001
    assert (await job())["grants_expired"] == 0
    clock.now += 1
    assert (await job())["grants_expired"] == 1
    assert await available(admin) == before
    assert (await do(admin, "credits.verify"))["ok"]


async def test_a_grant_that_is_run_again_expires_once(admin, clock, job):
    before = await available(admin)
    for _ in range(2):
        await do(admin, "credits.grant", amount=7, id="november", expires_in=60)
    assert await available(admin) == before + 7
    clock.now += 60_000
    assert [(await job())["grants_expired"] for _ in range(2)] == [1, 0]
    assert await available(admin) == before


async def test_an_account_may_owe_only_what_it_was_allowed(admin):
    await do(admin, "account.create", name="trusted")
    found = await do(admin, "credits.overdraft", amount="3.5", account="trusted")
    assert (found["overdraft"], found["available"]) == (Decimal("3.5"), Decimal("3.5"))
    assert (await do(admin, "credits.overdraft", amount=0, account="trusted"))["available"] == 0


async def test_a_low_balance_is_told_once(admin, job):
    await do(admin, "account.create", name="low")
    await do(admin, "credits.alert", below=10, account="low")
    assert [(await job())["balances_told"] for _ in range(2)] == [1, 0]
    (event,) = await admin.read(lambda conn: alerts.unsent(conn, 10))
    assert (event.kind, event.details) == ("balance.low", {"available": 0, "below": 10_000_000})
    assert (await do(admin, "credits.alert", account="low"))["low_below"] is None


async def test_caps_are_set_by_alias_shown_and_taken_away(admin):
    await do(admin, "key.create", name="k")
    await do(admin, "model.alias", alias="mine", name="sandbox-chat")
    found = await do(admin, "key.cap", key="k", model="mine", amount="0.5")
    assert found["caps"] == {"sandbox-chat": Decimal("0.5")}
    await do(admin, "key.cap", key="k", model="*", amount=2)
    assert (await do(admin, "key.show", key="k"))["caps"] == {"*": 2, "sandbox-chat": Decimal("0.5")}
    assert (await do(admin, "key.cap", key="k", model="sandbox-chat"))["caps"] == {"*": 2}
    assert (await refused(admin, "key.cap", key="k", model="nothing", amount=1)).kind == "not_found"
    assert (await refused(admin, "key.cap", key="k", model="*", amount=-1)).kind == "invalid"


async def test_a_call_nobody_made_cannot_be_explained(admin):
    assert (await refused(admin, "call.explain", call="req_nothing")).kind == "not_found"
