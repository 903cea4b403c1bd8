"""Deletions of tenants, carried on by any gateway."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # No row-level security: gateways look for what is due before they know whose it is.
    op.create_table(
        "tenant_deletions",
        sa.Column("tenant", sa.String(64), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("requested_at", UtcDateTime, nullable=False),
        sa.Column("completed_at", UtcDateTime),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("waits_for", sa.String(500), nullable=False),
        sa.Column("erased", sa.JSON, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("tenant_deletions")
