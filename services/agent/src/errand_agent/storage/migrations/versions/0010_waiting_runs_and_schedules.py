"""Runs that wait for their time or their conversation, and schedules."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("runs", sa.Column("priority", sa.Text, nullable=False, server_default="AT_ONCE"))
    op.add_column("runs", sa.Column("waiting", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("start_at", UtcDateTime))
    op.add_column("runs", sa.Column("started_at", UtcDateTime))
    op.add_column("runs", sa.Column("trace", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "schedules",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("next_at", UtcDateTime),
        sa.Column("last_run_id", sa.Text, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )
    enable_tenant_isolation(op, "schedules")
