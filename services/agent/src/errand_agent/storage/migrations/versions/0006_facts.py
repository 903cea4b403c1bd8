"""Facts that a person's agents know."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0006"
down_revision = "0005"


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("id", sa.Text, primary_key=True),
        _text("tenant_id"),
        _text("principal_id"),
        _text("key"),
        _text("agent"),
        _text("conversation_id"),
        _text("message_id"),
        _text("text"),
        _text("hash"),
        sa.Column("embedding", sa.JSON, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
        sa.UniqueConstraint("tenant_id", "principal_id", "hash"),
    )
    op.create_index("ix_facts_owner", "facts", ["tenant_id", "principal_id", "id"])
    enable_tenant_isolation(op, "facts")
