"""Settings of the agent service: ERRAND_AGENT_…"""

from __future__ import annotations

from pathlib import Path

from errand_common.http import checked_hosts, checked_networks
from errand_common.settings import CommaList, ServiceSettings
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from errand_agent.domain.pulse import BEAT_SECONDS, DEAD_AFTER_SECONDS


class AgentSettings(ServiceSettings):
    """What the agent service can be told."""

    model_config = SettingsConfigDict(env_prefix="ERRAND_AGENT_", extra="forbid")

    port: int = Field(default=50051, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    inference_target: str = Field(default="127.0.0.1:50052", description="gRPC target of the inference service")
    rag_target: str = Field(default="127.0.0.1:50053", description="gRPC target of the rag service")
    tools_target: str = Field(default="127.0.0.1:50054", description="gRPC target of the tools service")
    dbos_database_url: SecretStr | None = Field(
        default=None, description="DBOS's own database; default is SQLite in data_dir"
    )
    executor_id: str = Field(default="local", min_length=1, max_length=128, description="who this process is to others")
    heartbeat_seconds: float = Field(
        default=BEAT_SECONDS, ge=0.1, le=60, description="how often a replica tells that it lives"
    )
    dead_after_seconds: float = Field(
        default=DEAD_AFTER_SECONDS,
        ge=1,
        le=600,
        description="a replica silent for so long is dead; the same for all, and at least three heartbeats",
    )
    approval_seconds: float = Field(
        default=259_200, ge=1, le=2_592_000, description="seconds a call waits for a person before it is given up"
    )
    queued_runs_at_once: int = Field(
        default=16, ge=1, le=1024, description="runs with a priority that one replica executes at once"
    )
    flags_file: Path | None = Field(
        default=None, description="JSON file of flags, followed while it changes; none turns everything on"
    )
    flagd_target: str = Field(
        default="",
        pattern=r"^([\w.-]+:\d{1,5})?$",
        description="host:port of flagd's sync service, such as 'flagd:8015'; takes the place of flags_file",
    )
    flagd_ca_file: Path | None = Field(
        default=None, description="PEM file of who signed flagd's certificate; none speaks to it in plain text"
    )
    webhook_hosts: CommaList = Field(
        default=(),
        description="hosts that webhooks may tell: 'hooks.example.com', '*.example.com', '10.0.0.7:80'; empty for none",
    )
    webhook_private_networks: CommaList = Field(
        default=(), description="private networks that webhooks may reach, such as '10.20.0.0/16'"
    )
    price_prompt_usd_per_million: float = Field(
        default=0, ge=0, le=10_000, description="what a million prompt tokens cost, for limits of cost"
    )
    price_completion_usd_per_million: float = Field(
        default=0, ge=0, le=10_000, description="what a million generated tokens cost, for limits of cost"
    )
    brief_model: str = Field(
        default="", max_length=256, description="model that writes briefs of long conversations; empty cuts instead"
    )
    recalled_facts: int = Field(default=3, ge=0, le=20, description="facts about the user a run begins with")
    recall_min_similarity: float = Field(default=0.4, ge=-1, le=1, description="facts less similar are left out")
    retrieval_top_k: int = Field(default=3, ge=1, le=16, description="passages put before a question")
    retrieval_min_similarity: float = Field(default=0.22, ge=-1, le=1, description="passages less similar are left out")

    @field_validator("webhook_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return checked_hosts(hosts)

    @field_validator("webhook_private_networks")
    @classmethod
    def _check_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return checked_networks(networks)

    @model_validator(mode="after")
    def _heartbeats_may_be_late(self) -> AgentSettings:
        if self.dead_after_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("ERRAND_AGENT_DEAD_AFTER_SECONDS is less than three heartbeats; make it longer")
        return self

    @model_validator(mode="after")
    def _flags_have_one_source(self) -> AgentSettings:
        if self.flags_file is not None and self.flagd_target:
            raise ValueError("ERRAND_AGENT_FLAGS_FILE and ERRAND_AGENT_FLAGD_TARGET are both set; leave one out")
        return self

    @model_validator(mode="after")
    def _keys_are_given(self) -> AgentSettings:
        """Runs outlive their caller's token, so the service signs its own."""
        if not self.jwks:
            raise ValueError("ERRAND_AGENT_JWKS is not set; give the path or URL of the key set")
        if self.signing_key_file is None:
            raise ValueError("ERRAND_AGENT_SIGNING_KEY_FILE is not set; give the PEM file of the signing key")
        return self

    def dbos_url(self) -> str:
        """The URL of DBOS's database."""
        if self.dbos_database_url is not None:
            return self.dbos_database_url.get_secret_value()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{self.data_dir / 'agent-dbos.db'}"
