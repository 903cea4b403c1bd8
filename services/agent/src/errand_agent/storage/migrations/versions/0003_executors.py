"""Heartbeats of replicas."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "executors",
        sa.Column("executor_id", sa.Text, primary_key=True),
        sa.Column("beat_at", UtcDateTime, nullable=False),
    )
