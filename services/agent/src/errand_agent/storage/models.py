"""Tables of the agent service; every one carries its tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from errand_common.db import UtcDateTime, declarative_base
from sqlalchemy.orm import Mapped, mapped_column

Base = declarative_base()


class AgentRow(Base):  # type: ignore[valid-type, misc]
    """One version of an agent; the newest that is not deleted is in force."""

    __tablename__ = "agents"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    version: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    definition: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    deleted: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ConversationRow(Base):  # type: ignore[valid-type, misc]
    """A conversation; `active_run_id` is the run that answers now, one at a time."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    principal_id: Mapped[str] = mapped_column(sa.Text)
    title: Mapped[str] = mapped_column(sa.Text)
    agent: Mapped[str] = mapped_column(sa.Text)
    message_count: Mapped[int] = mapped_column(sa.Integer, default=0)
    active_run_id: Mapped[str | None] = mapped_column(sa.Text)
    archived: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    brief: Mapped[str] = mapped_column(sa.Text, default="")
    brief_until: Mapped[str] = mapped_column(sa.Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MessageRow(Base):  # type: ignore[valid-type, misc]
    """A message of a conversation."""

    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    conversation_id: Mapped[str] = mapped_column(sa.ForeignKey("conversations.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)
    run_id: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RunRow(Base):  # type: ignore[valid-type, misc]
    """A run. While it is `waiting` for its time or its conversation, nobody executes it."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    principal_id: Mapped[str] = mapped_column(sa.Text)
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    request_id: Mapped[str] = mapped_column(sa.Text)
    conversation_id: Mapped[str] = mapped_column(sa.ForeignKey("conversations.id", ondelete="CASCADE"))
    agent: Mapped[str] = mapped_column(sa.Text)
    definition: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    message: Mapped[str] = mapped_column(sa.Text)
    state: Mapped[str] = mapped_column(sa.Text)
    stop_reason: Mapped[str | None] = mapped_column(sa.Text)
    answer: Mapped[str] = mapped_column(sa.Text, default="")
    citations: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON, default=list)
    usage: Mapped[dict[str, int]] = mapped_column(sa.JSON, default=dict)
    last_sequence: Mapped[int] = mapped_column(sa.Integer, default=0)
    cancel_requested: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    idempotency_key: Mapped[str | None] = mapped_column(sa.Text)
    forked_from: Mapped[str | None] = mapped_column(sa.Text)
    parent_run_id: Mapped[str | None] = mapped_column(sa.Text)
    paused_seconds: Mapped[float] = mapped_column(sa.Float, default=0.0)
    prompt_name: Mapped[str] = mapped_column(sa.Text, default="")
    prompt_version: Mapped[int] = mapped_column(sa.Integer, default=0)
    priority: Mapped[str] = mapped_column(sa.Text, default="AT_ONCE")
    waiting: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    start_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    trace: Mapped[dict[str, str]] = mapped_column(sa.JSON, default=dict)
    cost_micros: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class EventRow(Base):  # type: ignore[valid-type, misc]
    """An event of a run. `key` names what told it, so that a step done again tells nothing twice."""

    __tablename__ = "run_events"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    payload: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApprovalRow(Base):  # type: ignore[valid-type, misc]
    """A call that a person must allow; `step` and `call_index` name it in its run."""

    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"))
    step: Mapped[int] = mapped_column(sa.Integer)
    call_index: Mapped[int] = mapped_column(sa.Integer)
    tool_name: Mapped[str] = mapped_column(sa.Text)
    arguments_json: Mapped[str] = mapped_column(sa.Text)
    state: Mapped[str] = mapped_column(sa.Text)
    edited_arguments_json: Mapped[str] = mapped_column(sa.Text)
    reason: Mapped[str] = mapped_column(sa.Text)
    decided_by: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WorkflowRow(Base):  # type: ignore[valid-type, misc]
    """One version of a workflow; the newest that is not deleted is in force."""

    __tablename__ = "workflows"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    version: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    definition: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    deleted: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WorkflowRunRow(Base):  # type: ignore[valid-type, misc]
    """A run of a workflow, with the definition it began with."""

    __tablename__ = "workflow_runs"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    principal_id: Mapped[str] = mapped_column(sa.Text)
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    request_id: Mapped[str] = mapped_column(sa.Text)
    workflow: Mapped[str] = mapped_column(sa.Text)
    definition: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    input: Mapped[str] = mapped_column(sa.Text)
    state: Mapped[str] = mapped_column(sa.Text)
    output: Mapped[str] = mapped_column(sa.Text)
    error: Mapped[str] = mapped_column(sa.Text)
    nodes: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    usage: Mapped[dict[str, int]] = mapped_column(sa.JSON)
    cancel_requested: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class FactRow(Base):  # type: ignore[valid-type, misc]
    """A fact that a person's agents know."""

    __tablename__ = "facts"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    principal_id: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    agent: Mapped[str] = mapped_column(sa.Text)
    conversation_id: Mapped[str] = mapped_column(sa.Text)
    message_id: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)
    hash: Mapped[str] = mapped_column(sa.Text)
    embedding: Mapped[list[float]] = mapped_column(sa.JSON)
    count: Mapped[int] = mapped_column(sa.Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ConsentRow(Base):  # type: ignore[valid-type, misc]
    """Whether models may learn from a person's runs."""

    __tablename__ = "consents"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    principal_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    training: Mapped[bool] = mapped_column(sa.Boolean)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ExecutorRow(Base):  # type: ignore[valid-type, misc]
    """A replica, and when it last told that it lives. It belongs to no tenant."""

    __tablename__ = "executors"

    executor_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    beat_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PromptRow(Base):  # type: ignore[valid-type, misc]
    """One version of a prompt; of a prompt whose newest version is deleted there is nothing left.

    One that was copied from MLflow's registry has its version there.
    """

    __tablename__ = "prompts"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    version: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    template: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str] = mapped_column(sa.Text)
    deleted: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    source_version: Mapped[int | None] = mapped_column(sa.Integer)


class PromptAliasRow(Base):  # type: ignore[valid-type, misc]
    """A name for one version of a prompt, or for several with their shares."""

    __tablename__ = "prompt_aliases"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    alias: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    variants: Mapped[list[dict[str, int]]] = mapped_column(sa.JSON)


class ScheduleRow(Base):  # type: ignore[valid-type, misc]
    """A message that is sent to an agent again and again, for the person who said so."""

    __tablename__ = "schedules"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    principal_id: Mapped[str] = mapped_column(sa.Text)
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    definition: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    next_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_run_id: Mapped[str] = mapped_column(sa.Text, default="")
    last_error: Mapped[str] = mapped_column(sa.Text, default="")


class WebhookRow(Base):  # type: ignore[valid-type, misc]
    """An address that is told what happens; its secret is derived from `key` and never stored."""

    __tablename__ = "webhooks"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    url: Mapped[str] = mapped_column(sa.Text)
    events: Mapped[list[str]] = mapped_column(sa.JSON)
    paused: Mapped[bool] = mapped_column(sa.Boolean)
    key: Mapped[str] = mapped_column(sa.Text)


class DeliveryRow(Base):  # type: ignore[valid-type, misc]
    """One event for one webhook."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    webhook: Mapped[str] = mapped_column(sa.Text)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(sa.Text)
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    state: Mapped[str] = mapped_column(sa.Text)
    attempts: Mapped[int] = mapped_column(sa.Integer)
    last_error: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RetentionRow(Base):  # type: ignore[valid-type, misc]
    """How many days a tenant's things are kept since they were last used; 0 for ever."""

    __tablename__ = "retentions"

    tenant_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    conversation_days: Mapped[int] = mapped_column(sa.Integer)
    workflow_run_days: Mapped[int] = mapped_column(sa.Integer)
    fact_days: Mapped[int] = mapped_column(sa.Integer)
    swept_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TimerRow(Base):  # type: ignore[valid-type, misc]
    """When what is due, for all tenants: replicas must see what is due before they know for whom."""

    __tablename__ = "timers"

    kind: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    thing: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FeedbackRow(Base):  # type: ignore[valid-type, misc]
    """What a person thinks of a run's answer; one a person and run."""

    __tablename__ = "feedback"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    principal_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.Text)
    helpful: Mapped[bool] = mapped_column(sa.Boolean)
    comment: Mapped[str] = mapped_column(sa.Text)
    correction: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
