"""${message}

Revision ID: ${up_revision}
"""

from __future__ import annotations

from alembic import context, op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Run the scripts of `sql/${up_revision}` for the database at hand."""
    conn = op.get_bind()
    for statement in context.config.attributes["scripts"].statements(revision, conn.dialect.name):
        conn.exec_driver_sql(statement)
