"""Networks that a tenant may be used from."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("allowed_networks", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("tenants", "allowed_networks")
