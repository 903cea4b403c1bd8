"""Approvals of calls; runs that go on from another; an archive of conversations; what runs cost."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("call_index", sa.Integer, nullable=False),
        sa.Column("tool_name", sa.Text, nullable=False),
        sa.Column("arguments_json", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("edited_arguments_json", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("decided_at", UtcDateTime),
        sa.UniqueConstraint("run_id", "step", "call_index"),
    )
    op.create_index("ix_approvals_tenant", "approvals", ["tenant_id", "id"])
    enable_tenant_isolation(op, "approvals")
    op.add_column("runs", sa.Column("forked_from", sa.Text))
    op.add_column("runs", sa.Column("cost_micros", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("conversations", sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()))
