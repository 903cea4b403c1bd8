"""Workflows and their runs."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0005"
down_revision = "0004"


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    op.create_table(
        "workflows",
        _text("tenant_id"),
        _text("name"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "version"),
    )
    op.create_table(
        "workflow_runs",
        sa.Column("id", sa.Text, primary_key=True),
        _text("tenant_id"),
        _text("principal_id"),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        _text("request_id"),
        _text("workflow"),
        sa.Column("definition", sa.JSON, nullable=False),
        _text("input"),
        _text("state"),
        _text("output"),
        _text("error"),
        sa.Column("nodes", sa.JSON, nullable=False),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime),
    )
    op.create_index("ix_workflow_runs_tenant", "workflow_runs", ["tenant_id", "id"])
    for table in ("workflows", "workflow_runs"):
        enable_tenant_isolation(op, table)
