"""What the keys of a project may spend together in each period, as rows."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from tollway.store import schema

BUDGET = schema.project_budget


def put(conn: Connection, project_id: str, amount: int | None, period: str, now: int) -> None:
    """Set a project's budget in place of the one it had; None takes it away."""
    conn.execute(delete(BUDGET).where(BUDGET.c.project_id == project_id))
    if amount is not None:
        conn.execute(
            insert(BUDGET).values(project_id=project_id, amount=amount, period=period, created_at=now)
        )


def of_project(conn: Connection, project_id: str) -> tuple[int, str] | None:
    """A project's budget in micro-credits, and its period."""
    found = conn.execute(
        select(BUDGET.c.amount, BUDGET.c.period).where(BUDGET.c.project_id == project_id)
    ).first()
    return None if found is None else (found.amount, found.period)
