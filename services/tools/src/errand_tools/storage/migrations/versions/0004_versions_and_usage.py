"""Versions of tools with their rules, the bytes kept beside them, and how their calls ended."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables and the columns."""
    op.add_column("tools", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.add_column("tools", sa.Column("rules_json", sa.Text, nullable=False, server_default="{}"))
    op.add_column("tools", sa.Column("artifact", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "tool_versions",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("tool_json", sa.Text, nullable=False),
        sa.Column("artifact", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "version", name="pk_tool_versions"),
    )
    op.create_table(
        "tool_artifacts",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "sha256", name="pk_tool_artifacts"),
    )
    op.create_table(
        "tool_usage",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("tool_name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("schema_hash", sa.String(12), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("argument", sa.String(64), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "day",
            "tool_name",
            "version",
            "schema_hash",
            "status",
            "bucket",
            "argument",
            name="pk_tool_usage",
        ),
    )
    for table in ("tool_versions", "tool_artifacts", "tool_usage"):
        enable_tenant_isolation(op, table)


def downgrade() -> None:
    """Drops them."""
    for table in ("tool_usage", "tool_artifacts", "tool_versions"):
        op.drop_table(table)
    for column in ("artifact", "rules_json", "version"):
        op.drop_column("tools", column)
