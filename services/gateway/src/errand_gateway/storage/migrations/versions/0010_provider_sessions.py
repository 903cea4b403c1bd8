"""Which session at a login provider a login comes from."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # No row-level security: a provider that tells of a logout names no tenant.
    op.create_table(
        "provider_sessions",
        sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner_tenant", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_index("ix_provider_sessions_subject", "provider_sessions", ["subject"])
    op.create_index("ix_provider_sessions_digest", "provider_sessions", ["digest"])


def downgrade() -> None:
    op.drop_table("provider_sessions")
