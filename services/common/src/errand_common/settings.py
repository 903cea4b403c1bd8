"""Settings of a service, read from the environment, with units and bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Settings = TypeVar("Settings", bound="ServiceSettings")


class SettingsError(Exception):
    """Settings that a service cannot start with; one line a field."""


class ServiceSettings(BaseSettings):
    """What every service can be told. A subclass sets `env_prefix`, for example ERRAND_AGENT_."""

    model_config = SettingsConfigDict(extra="forbid")

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=0, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="port of /metrics; 0 turns it off")
    data_dir: Path = Field(default=Path(".errand"), description="folder of the embedded databases")
    database_url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; default is SQLite in data_dir")
    jwks: str = Field(default="", description="path or URL of the key set that verifies internal tokens")
    signing_key_file: Path | None = Field(default=None, description="PEM file of the key that signs internal tokens")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "pretty"] = "json"
    otlp_endpoint: str | None = Field(default=None, description="URL spans are sent to by OTLP over HTTP")
    otlp_headers: dict[str, str] = Field(default_factory=dict, description="headers sent with spans, a JSON object")
    drain_seconds: float = Field(default=10, ge=0, le=600, description="time that running calls have to end at SIGTERM")

    def database(self, service: str) -> str:
        """The database's URL: the one that is set, or SQLite in `data_dir`."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return f"sqlite+aiosqlite:///{self.data_dir / f'{service}.db'}"

    @property
    def is_embedded(self) -> bool:
        """Whether the database is SQLite, owned by this process alone."""
        return self.database_url is None or self.database_url.get_secret_value().startswith("sqlite")


def load_settings(kind: type[Settings]) -> Settings:
    """Settings from the environment; raises SettingsError that names each wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        lines = [
            f"{prefix}{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from error


def describe(settings: ServiceSettings) -> str:
    """The effective settings as JSON, secrets masked."""
    return json.dumps(settings.model_dump(mode="json"), indent=2, sort_keys=True)
