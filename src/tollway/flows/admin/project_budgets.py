"""Budgets of projects: what the keys of one may spend together."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from tollway.core.billing.periods import period_end, period_of
from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import find_account, find_project
from tollway.flows.admin.refusals import invalid
from tollway.store import project_budgets, wallets

Period = Literal["total", "daily", "weekly", "monthly"]


class BudgetProject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the keys of a project may spend together, in credits per `period`; None takes the budget away."""

    project: str
    account: str = names.ACCOUNT
    amount: Decimal | None = None
    period: Period = "total"


class ProjectBudget(Struct, frozen=True, kw_only=True):
    """A project's budget in its current period, in credits; `limit` None: it has none."""

    id: str
    name: str
    limit: Decimal | None
    period: str
    used: Decimal
    held: Decimal
    resets_at: int | None


async def budget(admin: Admin, request: BudgetProject) -> ProjectBudget:
    """Set or take away a project's budget; it holds for the next call of its keys."""
    amount = None if request.amount is None else amounts.micro(request.amount, "a budget")
    if amount is not None and amount < 0:
        invalid(f"A budget of {request.amount} is not possible", "A budget is not negative.")

    def work(change: Change) -> ProjectBudget:
        conn = change.conn
        project = find_project(conn, request.project, find_account(conn, request.account))
        before = project_budgets.of_project(conn, project.id)
        project_budgets.put(conn, project.id, amount, request.period, change.now)
        after = None if amount is None else {"amount": amount, "period": request.period}
        change.note("project.budget", project.id, {"budget": before}, {"budget": after})
        used = dict(wallets.budget_spent(conn, project.id)).get(period_of(request.period, change.now))
        return ProjectBudget(
            id=project.id,
            name=project.name,
            limit=None if amount is None else amounts.shown(amount),
            period=request.period,
            used=amounts.shown(used.debited if used else 0),
            held=amounts.shown(used.held if used else 0),
            resets_at=None if amount is None else period_end(request.period, change.now),
        )

    return await admin.change(work)
