"""Rollups by the numbers of their places, and over more spans.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import context, op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the scripts of `sql/0003` for the database at hand."""
    conn = op.get_bind()
    for statement in context.config.attributes["scripts"].statements(revision, conn.dialect.name):
        conn.exec_driver_sql(statement)
