"""Quotas with their counts and leases; cost and project of usage rows."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0002"
down_revision = "0001"

_TABLES = ("quotas", "quota_counters", "quota_leases")


def _quota_id() -> sa.Column[str]:
    return sa.Column("quota_id", sa.String(64), sa.ForeignKey("quotas.id", ondelete="CASCADE"), primary_key=True)


def upgrade() -> None:
    op.add_column("usage", sa.Column("project", sa.String(64), nullable=False, server_default=""))
    op.add_column("usage", sa.Column("cost_micros", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_usage_tenant_id_created_at", "usage", ["tenant_id", "created_at"])
    op.create_table(
        "quotas",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(64), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("subject", sa.String(16), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("measure", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("tenant_id", "subject", "subject_id", "period", "measure"),
    )
    op.create_table(
        "quota_counters",
        _quota_id(),
        sa.Column("period_start", sa.String(10), primary_key=True),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("leased", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_leases",
        _quota_id(),
        sa.Column("period_start", sa.String(10), primary_key=True),
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    for table in _TABLES:
        enable_tenant_isolation(op, table)


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.drop_index("ix_usage_tenant_id_created_at", "usage")
    op.drop_column("usage", "cost_micros")
    op.drop_column("usage", "project")
