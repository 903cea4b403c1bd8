"""Tables of the gateway."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from errand_common.db import UtcDateTime, declarative_base
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "gateway"


class Base(DeclarativeBase):
    """Base of the gateway's tables."""

    metadata = declarative_base().metadata


class TenantRow(Base):
    """A tenant; read before anybody is authenticated, so it has no row-level security."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    display_name: Mapped[str] = mapped_column(sa.String(200))
    state: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    allowed_networks: Mapped[list[str]] = mapped_column(sa.JSON, default=list)


class TenantDeletionRow(Base):
    """How far the deletion of a tenant is; due when nobody works on it, or whoever did has died."""

    __tablename__ = "tenant_deletions"

    tenant: Mapped[str] = mapped_column(sa.String(64), sa.ForeignKey("tenants.id"), primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    requested_by: Mapped[str] = mapped_column(sa.String(64))
    request_id: Mapped[str] = mapped_column(sa.String(64))
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    looks: Mapped[int]
    failures: Mapped[int]
    waits_for: Mapped[str] = mapped_column(sa.String(500))
    erased: Mapped[dict[str, dict[str, int]]] = mapped_column(sa.JSON)
    owner: Mapped[str] = mapped_column(sa.String(64))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KeyPrefixRow(Base):
    """Which tenant a key's public prefix belongs to: found before the tenant is known."""

    __tablename__ = "key_prefixes"

    prefix: Mapped[str] = mapped_column(sa.String(24), primary_key=True)
    owner_tenant: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"))


class ApiKeyRow(Base):
    """An API key without its secret."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    prefix: Mapped[str] = mapped_column(sa.String(24), unique=True)
    digest: Mapped[str] = mapped_column(sa.String(64))
    pepper_id: Mapped[str] = mapped_column(sa.String(16))
    name: Mapped[str] = mapped_column(sa.String(200))
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    allowed_networks: Mapped[list[str]] = mapped_column(sa.JSON)


class UserRow(Base):
    """A person; the hash is empty for one who has no password."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(sa.String(254))
    display_name: Mapped[str] = mapped_column(sa.String(200))
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    state: Mapped[str] = mapped_column(sa.String(16))
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    password_hash: Mapped[str] = mapped_column(sa.String(256))

    __table_args__ = (sa.UniqueConstraint("tenant_id", "email"),)


class SessionRow(Base):
    """A login, with the number of its newest refresh token."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.String(64))
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    seed: Mapped[str] = mapped_column(sa.String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ProviderSessionRow(Base):
    """Which session at a login provider a login comes from: found before its tenant is known.

    `digest` is of the provider's own name for it, empty when it gave none.
    """

    __tablename__ = "provider_sessions"

    session_id: Mapped[str] = mapped_column(sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    owner_tenant: Mapped[str] = mapped_column(sa.String(64))
    provider: Mapped[str] = mapped_column(sa.String(20))
    subject: Mapped[str] = mapped_column(sa.String(64), index=True)
    digest: Mapped[str] = mapped_column(sa.String(64), index=True)


class FollowedRunRow(Base):
    """A run whose usage is to be booked when it ends; due when nobody holds it, or whoever did has died."""

    __tablename__ = "followed_runs"

    run_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    owner_tenant: Mapped[str] = mapped_column(sa.String(64), index=True)
    principal_id: Mapped[str] = mapped_column(sa.String(64))
    roles: Mapped[list[str]] = mapped_column(sa.JSON)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    request_id: Mapped[str] = mapped_column(sa.String(64))
    project: Mapped[str] = mapped_column(sa.String(64))
    price: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    holder: Mapped[str] = mapped_column(sa.String(64))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class UsageRow(Base):
    """What one request used."""

    __tablename__ = "usage"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.String(64), index=True)
    key_id: Mapped[str] = mapped_column(sa.String(64))
    request_id: Mapped[str] = mapped_column(sa.String(64))
    action: Mapped[str] = mapped_column(sa.String(64))
    agent: Mapped[str] = mapped_column(sa.String(128))
    model: Mapped[str] = mapped_column(sa.String(256))
    run_id: Mapped[str] = mapped_column(sa.String(64))
    status: Mapped[int]
    stop_reason: Mapped[str] = mapped_column(sa.String(32))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    duration_ms: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    project: Mapped[str] = mapped_column(sa.String(64))
    cost_micros: Mapped[int] = mapped_column(sa.BigInteger)


class AuditRow(Base):
    """One authenticated request, chained to the one before by its hash."""

    __tablename__ = "audit_log"

    tenant_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    principal_id: Mapped[str] = mapped_column(sa.String(64))
    action: Mapped[str] = mapped_column(sa.String(64))
    method: Mapped[str] = mapped_column(sa.String(16))
    path: Mapped[str] = mapped_column(sa.String(512))
    status: Mapped[int]
    request_id: Mapped[str] = mapped_column(sa.String(64))
    previous_hash: Mapped[str] = mapped_column(sa.String(64))
    hash: Mapped[str] = mapped_column(sa.String(64))


class ResponseRow(Base):
    """A stored answer of OpenAI's Responses API."""

    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    model: Mapped[str] = mapped_column(sa.String(256))
    run_id: Mapped[str] = mapped_column(sa.String(64))
    conversation_id: Mapped[str] = mapped_column(sa.String(64))
    final: Mapped[bool]
    body: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    items: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    history: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)


class FileRow(Base):
    """A file that may be put into collections."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    filename: Mapped[str] = mapped_column(sa.String(255))
    purpose: Mapped[str] = mapped_column(sa.String(32))
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    content: Mapped[bytes] = mapped_column(sa.LargeBinary)


class FileLinkRow(Base):
    """Which document of a collection a file became."""

    __tablename__ = "file_links"

    tenant_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    collection_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    file_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    document_id: Mapped[str] = mapped_column(sa.String(64))


class IdempotencyRow(Base):
    """An answer that is kept for a request that is sent again; its body is sealed."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    principal_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    running: Mapped[bool]
    status: Mapped[int]
    headers: Mapped[list[list[str]]] = mapped_column(sa.JSON)
    body: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class QuotaRow(Base):
    """A limit on what a tenant, a key or a user spends."""

    __tablename__ = "quotas"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id", ondelete="CASCADE"))
    subject: Mapped[str] = mapped_column(sa.String(16))
    subject_id: Mapped[str] = mapped_column(sa.String(64))
    period: Mapped[str] = mapped_column(sa.String(16))
    measure: Mapped[str] = mapped_column(sa.String(16))
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (sa.UniqueConstraint("tenant_id", "subject", "subject_id", "period", "measure"),)


class QuotaCounterRow(Base):
    """What is spent of a quota in one period, and what gateways have leased and not yet spent."""

    __tablename__ = "quota_counters"

    quota_id: Mapped[str] = mapped_column(sa.ForeignKey("quotas.id", ondelete="CASCADE"), primary_key=True)
    period_start: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.String(64))
    spent: Mapped[int] = mapped_column(sa.BigInteger)
    leased: Mapped[int] = mapped_column(sa.BigInteger)


class QuotaLeaseRow(Base):
    """What one gateway has leased of a quota and not yet spent."""

    __tablename__ = "quota_leases"

    quota_id: Mapped[str] = mapped_column(sa.ForeignKey("quotas.id", ondelete="CASCADE"), primary_key=True)
    period_start: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    holder: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.String(64))
    held: Mapped[int] = mapped_column(sa.BigInteger)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


TENANT_TABLES = (
    IdempotencyRow.__tablename__,
    UserRow.__tablename__,
    SessionRow.__tablename__,
    ApiKeyRow.__tablename__,
    UsageRow.__tablename__,
    AuditRow.__tablename__,
    ResponseRow.__tablename__,
    FileRow.__tablename__,
    FileLinkRow.__tablename__,
    QuotaRow.__tablename__,
    QuotaCounterRow.__tablename__,
    QuotaLeaseRow.__tablename__,
)
"""Tables that row-level security guards on Postgres."""
