"""Refunds of what exceeded a hold, caps that key holders set, and events that were seen.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import context, op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the scripts of `sql/0004` for the database at hand."""
    conn = op.get_bind()
    for statement in context.config.attributes["scripts"].statements(revision, conn.dialect.name):
        conn.exec_driver_sql(statement)
