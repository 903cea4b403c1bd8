"""Sealed secrets, kinds of tools, and what an HTTP tool's call needs besides its URL."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table and the columns."""
    op.create_table(
        "secrets",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hosts_json", sa.Text, nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_secrets"),
    )
    enable_tenant_isolation(op, "secrets")
    op.add_column("tools", sa.Column("kind", sa.String(16), nullable=False, server_default="http"))
    op.add_column("tools", sa.Column("binding_json", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("tools", "binding_json")
    op.drop_column("tools", "kind")
    op.drop_table("secrets")
