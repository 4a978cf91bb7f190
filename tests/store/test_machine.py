"""The ledger against a model of it: any sequence of operations, all invariants after every step.

10,000 steps by default; MACHINE_EXAMPLES and MACHINE_STEPS, which multiply to it, say otherwise.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.ledger import hold_of, new_id, settlement_of, wallet_of

from tollway.config import Settings
from tollway.store import careful
from tollway.store.base import (
    Balance,
    HoldRequest,
    IllegalOperation,
    InsufficientFunds,
    Settled,
    Store,
    Transfer,
)
from tollway.store.factory import open_store
from tollway.store.verify import verify

PARTS = 4
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "220"))
STEPS = int(os.environ.get("MACHINE_STEPS", "50"))
BETWEEN = 5
"""Steps between two crashes at least."""
MEMORY = Path("/dev/shm")
"""Where files cost no time. A crash of the machine is none of the model's, so nothing depends on a disk."""
AMOUNTS = st.integers(0, 150)


class LedgerMachine(RuleBasedStateMachine):
    """The model is three integers per account and the open holds; a crash is a reopening."""

    holds = Bundle("holds")
    closed = Bundle("closed")

    def __init__(self) -> None:
        super().__init__()
        where = MEMORY if os.access(MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="tollway-machine-", dir=where))
        self.runner = asyncio.Runner()
        self.store: Store = open_store(Settings(data=str(self.folder)))
        self.runner.run(self.store.open())
        self.credited = self.debited = self.held = 0
        self.limit = self.spent = self.reserved = 0
        self.since_crash = 0
        self.open: dict[str, HoldRequest] = {}
        self.settled: dict[str, tuple[int, int]] = {}

    @initialize(granted=st.integers(1, 500), limit=st.integers(0, 300))
    def begin(self, granted: int, limit: int) -> None:
        self.wallet = self.runner.run(wallet_of(self.store, granted))
        self.key = new_id()
        self.budget = self.runner.run(self.store.ledger.budget(self.key, "", limit, 1))
        self.credited, self.limit = granted, limit

    def balance(self) -> Balance:
        return Balance(self.credited, self.debited, self.held)

    @rule(target=holds, amount=AMOUNTS, budgeted=st.booleans())
    def hold(self, amount: int, budgeted: bool) -> HoldRequest:
        request = hold_of(self.wallet, amount, budget=self.budget if budgeted else None)
        fits = amount <= self.balance().available
        fits_budget = not budgeted or amount <= self.limit - self.spent - self.reserved
        if not (fits and fits_budget):
            with pytest.raises(InsufficientFunds) as refused:
                self.runner.run(self.store.ledger.hold(request))
            assert refused.value.kind == ("budget" if fits else "wallet")
            return request
        found = self.runner.run(self.store.ledger.hold(request))
        self.held += amount
        self.reserved += amount if budgeted else 0
        self.open[request.id] = request
        assert found == self.balance()
        return request

    @rule(target=closed, request=consumes(holds), amount=st.none() | AMOUNTS)
    def settle(self, request: HoldRequest, amount: int | None) -> HoldRequest:
        try:
            found = self.runner.run(self.store.ledger.settle(settlement_of(request.id, amount)))
        except IllegalOperation:
            assert request.id not in self.open and request.id not in self.settled
            return request
        if request.id in self.settled:
            assert (found.charged, found.absorbed) == self.settled[request.id]
            assert not found.first
            return request
        assert request.id in self.open
        del self.open[request.id]
        charged, absorbed = self.close(request, amount or 0)
        self.settled[request.id] = (charged, absorbed)
        assert found == Settled(True, charged, absorbed, self.balance())
        return request

    def close(self, request: HoldRequest, owed: int) -> tuple[int, int]:
        budgeted = request.budget is not None
        self.held -= request.amount
        self.reserved -= request.amount if budgeted else 0
        charged = min(owed, request.amount)
        self.debited += charged
        self.spent += charged if budgeted else 0
        excess = owed - charged
        if excess <= self.balance().available and (
            not budgeted or excess <= self.limit - self.spent - self.reserved
        ):
            self.debited += excess
            self.spent += excess if budgeted else 0
            return owed, 0
        return charged, excess

    @rule(request=closed, amount=AMOUNTS)
    def settle_again(self, request: HoldRequest, amount: int) -> None:
        self.settle(request, amount) if request.id not in self.open else None

    @rule(amount=st.integers(1, 100), out=st.booleans())
    def transfer(self, amount: int, out: bool) -> None:
        kind = "adjust" if out else "topup"
        transfer = Transfer(id=new_id(), kind=kind, wallet=self.wallet, amount=amount, at=1)
        fits = not out or amount <= self.balance().available
        for _ in range(2):
            try:
                self.runner.run(self.store.ledger.transfer(transfer))
            except InsufficientFunds:
                assert not fits
            else:
                assert fits
        if fits and out:
            self.debited += amount
        elif fits:
            self.credited += amount

    @rule(limit=st.integers(0, 400))
    def change_limit(self, limit: int) -> None:
        assert self.runner.run(self.store.ledger.budget(self.key, "", limit, 1)) == self.budget
        self.limit = max(limit, self.spent + self.reserved)

    # Else every other step is one, for there is always one to make.
    @precondition(lambda self: self.since_crash >= BETWEEN)
    @rule()
    def crash_and_recover(self) -> None:
        self.since_crash = 0
        self.runner.run(self.store.close())
        self.store = open_store(Settings(data=str(self.folder)))
        self.runner.run(self.store.open())
        for request in self.open.values():
            self.held -= request.amount
            self.reserved -= request.amount if request.budget is not None else 0
            late = self.runner.run(self.store.ledger.settle(settlement_of(request.id, 5)))
            assert (late.first, late.charged, late.absorbed) == (False, 0, 5)
            self.settled[request.id] = (0, 5)
        self.open.clear()

    @invariant()
    def the_model_and_the_books_agree(self) -> None:
        if not self.credited:
            return
        self.since_crash += 1
        accounts = (self.wallet, self.budget)
        (wallet, budget), report = self.runner.run(
            self.store.read(lambda conn: ([careful.balance(conn, one) for one in accounts], verify(conn)))
        )
        assert wallet == self.balance()
        assert budget == Balance(0, self.spent, self.reserved, self.limit)
        assert report.ok, [check for check in report.checks if not check.ok]

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.timeout(300 + EXAMPLES * STEPS // 20)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_ledger_does_what_its_model_does(part: int) -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=max(1, EXAMPLES // PARTS),
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
