"""Tables of the tools service; every row belongs to a tenant."""

from datetime import date, datetime

from errand_common.db import UtcDateTime, declarative_base
from sqlalchemy import BigInteger, Boolean, Date, Float, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The service's tables."""

    metadata = declarative_base().metadata


class ToolRow(Base):
    """A registered tool."""

    __tablename__ = "tools"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    parameters_json: Mapped[str] = mapped_column(Text)
    timeout_ms: Mapped[int] = mapped_column(Integer)
    side_effect: Mapped[str] = mapped_column(String(16))
    policy: Mapped[str] = mapped_column(String(16))
    method: Mapped[str] = mapped_column(String(8))
    url_template: Mapped[str] = mapped_column(Text)
    reconcile_tool: Mapped[str] = mapped_column(String(128))
    enabled: Mapped[bool] = mapped_column(Boolean)
    schema_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(16))
    binding_json: Mapped[str] = mapped_column(Text)
    offer_json: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    rules_json: Mapped[str] = mapped_column(Text)
    artifact: Mapped[str] = mapped_column(String(64))


class ToolVersionRow(Base):
    """A registered tool as it was."""

    __tablename__ = "tool_versions"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    tool_json: Mapped[str] = mapped_column(Text)
    artifact: Mapped[str] = mapped_column(String(64))


class ToolArtifactRow(Base):
    """Bytes that tools and versions name: modules and descriptors."""

    __tablename__ = "tool_artifacts"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ToolUsageRow(Base):
    """How many calls of a version ended one way on one day."""

    __tablename__ = "tool_usage"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    tool_name: Mapped[str] = mapped_column(String(128), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    schema_hash: Mapped[str] = mapped_column(String(12), primary_key=True)
    status: Mapped[str] = mapped_column(String(24), primary_key=True)
    bucket: Mapped[int] = mapped_column(Integer, primary_key=True)
    argument: Mapped[str] = mapped_column(String(64), primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)


class McpServerRow(Base):
    """An MCP server."""

    __tablename__ = "mcp_servers"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    stdio: Mapped[str] = mapped_column(String(64))
    auth_json: Mapped[str] = mapped_column(Text)
    side_effect: Mapped[str] = mapped_column(String(16))
    policy: Mapped[str] = mapped_column(String(16))
    timeout_ms: Mapped[int] = mapped_column(Integer)


class SecretRow(Base):
    """A secret, its value sealed."""

    __tablename__ = "secrets"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    hosts_json: Mapped[str] = mapped_column(Text)
    sealed: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DisabledBuiltinRow(Base):
    """A built-in tool that the tenant turned off."""

    __tablename__ = "disabled_builtins"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)


class EffectRow(Base):
    """An entry of the effect ledger."""

    __tablename__ = "effects"
    __table_args__ = (
        Index("ix_effects_tenant_id_created_at", "tenant_id", "created_at", "id"),
        Index("ix_effects_tenant_id_run_id", "tenant_id", "run_id"),
    )

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(128))
    step: Mapped[int] = mapped_column(Integer)
    call_index: Mapped[int] = mapped_column(Integer)
    tool_name: Mapped[str] = mapped_column(String(128))
    arguments_hash: Mapped[str] = mapped_column(String(64))
    side_effect: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(Integer)
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    status: Mapped[str | None] = mapped_column(String(24))
    result_json: Mapped[str | None] = mapped_column(Text)
    duration_ms: Mapped[float] = mapped_column(Float, default=0.0)
    truncated: Mapped[bool] = mapped_column(Boolean, default=False)
