"""Keep-credits: takes back credits whose time is over, tells of low balances, forgets old idempotency keys."""

from __future__ import annotations

from tollway.flows import credits as money
from tollway.flows import idempotency
from tollway.flows.jobs.work import Outcome, Work


async def keep(work: Work) -> Outcome:
    """All three, in short transactions."""
    now = work.now()
    expired = await money.expire(work, now)
    told = await money.watch_balances(work, now)
    forgotten = await idempotency.expire(work, now)
    done = expired + told + forgotten
    details = {"grants_expired": expired, "balances_told": told, "keys_forgotten": forgotten}
    return Outcome(processed=done, succeeded=done, details=details)
