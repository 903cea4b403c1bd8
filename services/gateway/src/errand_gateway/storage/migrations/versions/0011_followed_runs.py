"""Runs that go on when their request has been answered: any gateway books what they used."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # No row-level security: what a gateway that died has left is found whatever its tenant.
    op.create_table(
        "followed_runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("owner_tenant", sa.String(64), nullable=False),
        sa.Column("principal_id", sa.String(64), nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("price", sa.JSON, nullable=False),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_followed_runs_due_at", "followed_runs", ["due_at"])
    op.create_index("ix_followed_runs_owner_tenant", "followed_runs", ["owner_tenant"])


def downgrade() -> None:
    op.drop_table("followed_runs")
