"""Prompts with versions and aliases, and which one a run had."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("runs", sa.Column("prompt_name", sa.Text, nullable=False, server_default=""))
    op.add_column("runs", sa.Column("prompt_version", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_runs_prompt", "runs", ["tenant_id", "prompt_name", "prompt_version"])
    op.create_table(
        "prompts",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "version"),
    )
    op.create_table(
        "prompt_aliases",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("variants", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "alias"),
    )
    for table in ("prompts", "prompt_aliases"):
        enable_tenant_isolation(op, table)
