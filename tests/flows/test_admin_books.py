"""What the doctor says of the ledger: what is new is proved at once, the rest is as the last proof of it left it."""

from __future__ import annotations

from functools import partial

import pytest
from tests.support.admin import Clock, instance, ready
from tests.support.ledger import held_and_settled, wallet_of

from tollway.flows.admin import books
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.store import marks

DAY = 86_400_000


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


@pytest.fixture
def prove(admin, clock):
    """The job, as it runs when it is due."""
    runner = Runner(Tools(store=admin.store, clock=clock, settings=admin.settings))

    async def run():
        await admin.store.write(lambda conn: conn.exec_driver_sql("UPDATE job SET next_at = 0"))
        return (await runner.run("verify-ledger", asked=False)).details.get("whole")

    return run


async def charge(admin, call, amount):
    await admin.store.write(
        lambda conn: conn.exec_driver_sql(f"UPDATE call SET charged = {amount} WHERE id = '{call}'")
    )


async def looked(admin, *, full=False):
    found = await books.look(admin, full=full)
    return found.verdict, found.detail


async def test_what_was_never_proved_is_proved_whole_unless_it_is_large(admin, monkeypatch):
    assert await looked(admin) == ("ok", "12 invariants hold for all of it")
    monkeypatch.setattr(books, "QUICK", 0)
    verdict, detail = await looked(admin)
    assert (verdict, "never been proved" in detail) == ("warning", True)
    assert (await looked(admin, full=True))[0] == "ok"


async def test_only_what_is_new_is_looked_at_unless_everything_is_asked_for(admin, clock, prove):
    wallet = await wallet_of(admin.store, 1000)
    old, _ = await held_and_settled(admin.store, wallet, 50, 20)
    assert await prove() is True
    clock.now += 3 * 3_600_000
    assert await looked(admin) == ("ok", "12 invariants hold for what is new; all of it did 3 h ago")
    new, _ = await held_and_settled(admin.store, wallet, 50, 20)
    await charge(admin, new, 21)
    assert (await looked(admin))[0] == "failed"
    await charge(admin, new, 20)
    await charge(admin, old, 19)
    assert (await looked(admin))[0] == "ok"
    assert await looked(admin, full=True) == ("failed", "broken: I7, I10, I13")


async def test_books_that_a_proof_found_broken_stay_so_until_all_of_them_are_proved(admin, clock, prove):
    wallet = await wallet_of(admin.store, 1000)
    call, _ = await held_and_settled(admin.store, wallet, 50, 20)
    assert await prove() is True
    await charge(admin, call, 19)
    clock.now += DAY
    assert await prove() is True
    clock.now += 600_000
    verdict, detail = await looked(admin)
    assert (verdict, "10 min ago found it broken" in detail) == ("failed", True), detail
    await charge(admin, call, 20)
    assert (await looked(admin))[0] == "failed"
    assert (await looked(admin, full=True))[0] == "ok"
    clock.now += DAY
    assert await prove() is True
    assert (await looked(admin))[0] == "ok"


async def test_a_proof_of_everything_that_nobody_makes_any_more_is_missed(admin, clock, prove):
    assert await prove() is True
    assert await admin.read(partial(marks.value, topic=marks.PROVED_WHOLE)) == clock.now
    clock.now += books.STALE_MS + 1
    verdict, detail = await looked(admin)
    assert (verdict, detail.endswith("all of it did 3 d ago")) == ("warning", True), detail
