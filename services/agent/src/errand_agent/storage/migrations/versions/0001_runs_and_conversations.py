"""Agents, conversations, messages, runs, events, feedback."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0001"
down_revision = None


def _text(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _time(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, UtcDateTime, nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "agents",
        _text("tenant_id"),
        _text("name"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name", "version"),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text, primary_key=True),
        _text("tenant_id"),
        _text("principal_id"),
        _text("title"),
        _text("agent"),
        sa.Column("message_count", sa.Integer, nullable=False),
        sa.Column("active_run_id", sa.Text),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("ix_conversations_owner", "conversations", ["tenant_id", "principal_id", "id"])
    op.create_table(
        "messages",
        sa.Column("id", sa.Text, primary_key=True),
        _text("tenant_id"),
        sa.Column("conversation_id", sa.Text, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _text("role"),
        _text("text"),
        _text("run_id"),
        _time("created_at"),
    )
    op.create_index("ix_messages_conversation", "messages", ["conversation_id", "id"])
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        _text("tenant_id"),
        _text("principal_id"),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        _text("request_id"),
        sa.Column("conversation_id", sa.Text, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _text("agent"),
        sa.Column("definition", sa.JSON, nullable=False),
        _text("message"),
        _text("state"),
        sa.Column("stop_reason", sa.Text),
        _text("answer"),
        sa.Column("citations", sa.JSON, nullable=False),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("last_sequence", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        _time("created_at"),
        _time("ended_at", nullable=True),
        sa.UniqueConstraint("tenant_id", "principal_id", "idempotency_key"),
    )
    op.create_index("ix_runs_tenant", "runs", ["tenant_id", "id"])
    op.create_index("ix_runs_conversation", "runs", ["conversation_id"])
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        _text("tenant_id"),
        _text("key"),
        _text("kind"),
        sa.Column("payload", sa.JSON, nullable=False),
        _time("at"),
        sa.PrimaryKeyConstraint("run_id", "sequence"),
    )
    op.create_index("ix_run_events_key", "run_events", ["run_id", "key"])
    op.create_table(
        "feedback",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        _text("principal_id"),
        _text("tenant_id"),
        sa.Column("helpful", sa.Boolean, nullable=False),
        _text("comment"),
        _text("correction"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("run_id", "principal_id"),
    )
    for table in ("agents", "conversations", "messages", "runs", "run_events", "feedback"):
        enable_tenant_isolation(op, table)
