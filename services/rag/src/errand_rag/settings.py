"""Settings of the rag service, read from ERRAND_RAG_…"""

import socket
from pathlib import Path
from typing import Literal

from errand_common.http import Reach, checked_hosts, checked_networks
from errand_common.settings import CommaList, ServiceSettings
from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

_MIB = 1024 * 1024
_CACHE_SCHEMES = ("valkey://", "valkeys://", "redis://", "rediss://")


class RagSettings(ServiceSettings):
    """What the rag service can be told; sizes and times carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="ERRAND_RAG_", extra="forbid")

    port: int = Field(default=50053, ge=0, le=65535, description="port to listen on")
    inference_target: str = Field(default="127.0.0.1:50052", description="gRPC target of the inference service")
    embed_timeout_seconds: float = Field(
        default=60, gt=0, le=600, description="longest wait for one batch of embeddings"
    )
    rerank_timeout_seconds: float = Field(
        default=10, gt=0, le=600, description="longest wait for a cross-encoder's order; then the former one is given"
    )
    embed_batch: int = Field(default=32, ge=1, le=64, description="texts in a batch")
    embedding_cache_entries: int = Field(default=10_000, ge=0, le=1_000_000, description="vectors remembered in memory")
    embedding_cache_url: SecretStr | None = Field(
        default=None, description="redis://… or valkey://… that all replicas remember vectors in; default is none"
    )
    embedding_cache_ttl_seconds: float = Field(
        default=86_400, ge=1, le=2_592_000, description="time after which a vector is forgotten there"
    )
    vector_store: Literal["chroma", "pgvector"] = Field(
        default="chroma", description="where vectors are kept; pgvector keeps them in the Postgres of database_url"
    )
    chroma_url: AnyHttpUrl | None = Field(
        default=None, description="URL of a Chroma server; default is files in data_dir"
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        description="who this process is to others; it takes back the work of its former self",
    )
    worker_concurrency: int = Field(default=2, ge=0, le=64, description="documents ingested at a time; 0 ingests none")
    worker_lease_seconds: float = Field(
        default=60, ge=1, le=3600, description="after this time another takes up a dead one's work"
    )
    worker_max_attempts: int = Field(default=8, ge=1, le=100, description="attempts before a document is given up")
    max_document_bytes: int = Field(default=25 * _MIB, ge=1, le=200 * _MIB, description="largest document")
    max_concurrent_uploads: int = Field(
        default=8, ge=1, le=256, description="uploads read at a time; each is held in memory"
    )
    fetch_hosts: CommaList = Field(
        default=(),
        description="hosts that documents may be fetched from: 'docs.example.com', '*.example.com', '10.0.0.7:8080'; "
        "'*' for every public host; none turns fetching off",
    )
    fetch_private_networks: CommaList = Field(
        default=(), description="private networks that documents may be fetched from, such as '10.20.0.0/16'"
    )
    fetch_timeout_seconds: float = Field(default=60, gt=0, le=600, description="longest time to fetch one document")
    max_document_characters: int = Field(default=10_000_000, ge=1, description="most text in a document")
    max_document_chunks: int = Field(default=20_000, ge=1, description="most chunks of a document")
    max_pages: int = Field(default=5000, ge=1, description="most pages of a PDF")
    max_collections: int = Field(default=200, ge=1, description="most collections of a tenant")
    max_documents: int = Field(default=100_000, ge=1, description="most documents of a tenant")
    max_tenant_bytes: int = Field(default=20 * 1024 * _MIB, ge=1, description="most bytes of a tenant's documents")
    query_cache_entries: int = Field(default=500, ge=0, le=100_000, description="answers of searches remembered")
    read_timeout_seconds: float = Field(
        default=60, gt=0, le=3600, description="longest time to parse and cut one document"
    )
    read_memory_bytes: int = Field(default=1024 * _MIB, ge=256 * _MIB, description="memory of one reader process")

    @model_validator(mode="after")
    def _keys_are_given(self) -> "RagSettings":
        """Nothing is served without keys: they tell who calls, and for whom work is done later."""
        if not self.jwks:
            raise ValueError("ERRAND_RAG_JWKS is not set; give the path or URL of the key set")
        if self.signing_key_file is None:
            raise ValueError(
                "ERRAND_RAG_SIGNING_KEY_FILE is not set; give the PEM file of the signing key, "
                "which background ingestion calls the inference service with"
            )
        return self

    @model_validator(mode="after")
    def _vectors_have_a_place(self) -> "RagSettings":
        if self.vector_store == "pgvector" and self.is_embedded:
            raise ValueError(
                "ERRAND_RAG_VECTOR_STORE=pgvector needs Postgres; set ERRAND_RAG_DATABASE_URL to a "
                "postgresql+asyncpg URL, or take chroma"
            )
        return self

    @field_validator("embedding_cache_url")
    @classmethod
    def _check_cache(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_CACHE_SCHEMES):
            raise ValueError("is no URL of a Valkey or Redis server; give valkey://:PASSWORD@HOST:6379/0")
        return url

    @field_validator("fetch_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return hosts if hosts == ("*",) else checked_hosts(hosts)

    @field_validator("fetch_private_networks")
    @classmethod
    def _check_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return checked_networks(networks)

    @property
    def fetch_reach(self) -> Reach | None:
        """Where documents may be fetched from; None when nowhere."""
        if not self.fetch_hosts:
            return None
        return Reach(None if self.fetch_hosts == ("*",) else self.fetch_hosts, self.fetch_private_networks)

    @property
    def chroma_folder(self) -> Path:
        """Where embedded Chroma keeps its files."""
        return self.data_dir / "chroma"
