"""The first schema: who pays, where calls go, the ledger with its rules, what happened.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import context, op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the scripts of `sql/0001` for the database at hand."""
    conn = op.get_bind()
    for statement in context.config.attributes["scripts"].statements(revision, conn.dialect.name):
        conn.exec_driver_sql(statement)
