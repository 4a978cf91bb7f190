"""Leases: credits held for many calls of a wallet at once, and calls whose holds are drawn from them.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import context, op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the scripts of `sql/0005` for the database at hand."""
    conn = op.get_bind()
    for statement in context.config.attributes["scripts"].statements(revision, conn.dialect.name):
        conn.exec_driver_sql(statement)
