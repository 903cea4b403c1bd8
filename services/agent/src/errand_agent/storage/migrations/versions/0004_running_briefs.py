"""Running briefs of conversations: the text, and the last message that is in it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("brief", sa.Text, nullable=False, server_default=""))
    op.add_column("conversations", sa.Column("brief_until", sa.Text, nullable=False, server_default=""))
