"""How long things are kept, and what is due when."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "retentions",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("conversation_days", sa.Integer, nullable=False),
        sa.Column("workflow_run_days", sa.Integer, nullable=False),
        sa.Column("fact_days", sa.Integer, nullable=False),
        sa.Column("swept_at", UtcDateTime),
    )
    enable_tenant_isolation(op, "retentions")
    op.create_table(
        "timers",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("kind", "tenant", "thing"),
    )
    op.create_index("ix_timers_due", "timers", ["due_at"])
    op.create_index("ix_conversations_used", "conversations", ["tenant_id", "updated_at"])
