"""Prompts that are copies of MLflow's: which version of its registry a version is."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("prompts", sa.Column("source_version", sa.Integer))
