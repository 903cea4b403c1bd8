"""MCP servers, and what they offer that nobody approved yet."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import enable_tenant_isolation

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table and the column."""
    op.create_table(
        "mcp_servers",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("stdio", sa.String(64), nullable=False),
        sa.Column("auth_json", sa.Text, nullable=False),
        sa.Column("side_effect", sa.String(16), nullable=False),
        sa.Column("policy", sa.String(16), nullable=False),
        sa.Column("timeout_ms", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_mcp_servers"),
    )
    enable_tenant_isolation(op, "mcp_servers")
    op.add_column("tools", sa.Column("offer_json", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("tools", "offer_json")
    op.drop_table("mcp_servers")
