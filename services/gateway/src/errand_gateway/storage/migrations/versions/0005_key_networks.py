"""Networks that a key may be used from."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("allowed_networks", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("api_keys", "allowed_networks")
