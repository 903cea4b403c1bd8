"""Runs that other runs called, and the time people took to decide."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("runs", sa.Column("parent_run_id", sa.Text))
    op.add_column("runs", sa.Column("paused_seconds", sa.Float, nullable=False, server_default="0"))
    op.create_index("ix_runs_parent", "runs", ["tenant_id", "parent_run_id"])
