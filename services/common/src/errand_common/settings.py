"""Settings of a service, read from the environment, with units and bounds."""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_origin

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from errand_common.redaction import redacted

Settings = TypeVar("Settings", bound="ServiceSettings")


def parted(value: object) -> object:
    """Lists are written with commas, as in `a.example,b.example`."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parted)]


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
    tls_dir: Path | None = Field(
        default=None,
        description="folder with tls.crt, tls.key and ca.crt: gRPC then is mutual TLS; empty is plain text",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "pretty"] = "json"
    otlp_endpoint: str | None = Field(default=None, description="URL all spans are sent to by OTLP over HTTP")
    otlp_headers: dict[str, str] = Field(default_factory=dict, description="headers sent with spans, a JSON object")
    mlflow_endpoint: str | None = Field(default=None, description="MLflow's OTLP URL; gets the runs' GenAI spans")
    mlflow_headers: dict[str, str] = Field(
        default_factory=dict, description="headers sent with MLflow's spans, a JSON object"
    )
    trace_content: Literal["on", "redacted", "off"] = Field(
        default="redacted", description="what spans hold of messages, arguments and results: all, masked or nothing"
    )
    traces_per_second: float = Field(
        default=20,
        ge=0,
        le=10_000,
        description="traces of each kind that a process begins in a second, three seconds' worth at once; of what is "
        "beyond, errors and slow requests alone are told",
    )
    slow_trace_seconds: float = Field(
        default=10, ge=0.001, le=3_600, description="a request or run that takes longer is always told of"
    )
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
    """Settings from the environment; raises SettingsError that names each wrong variable and its rule."""
    try:
        settings = kind()
    except ValidationError as error:
        lines = [_line(kind, problem["loc"], problem["msg"]) for problem in error.errors(include_input=False)]
        raise SettingsError("\n".join(lines)) from error
    except SourceError as error:
        raise SettingsError("\n".join(_not_json(kind))) from error
    if unknown := _unknown_variables(kind):
        raise SettingsError("\n".join(unknown))
    return settings


def _prefix(kind: type[ServiceSettings]) -> str:
    return str(kind.model_config.get("env_prefix", "")).upper()


def _line(kind: type[ServiceSettings], location: tuple[int | str, ...], message: str) -> str:
    variable = _prefix(kind) + "_".join(str(part) for part in location).upper()
    field = kind.model_fields.get(str(location[0])) if location else None
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{variable.rstrip('_')}: {message.removeprefix('Value error, ')}{meaning}"


def _not_json(kind: type[ServiceSettings]) -> list[str]:
    """The variables that should hold JSON and do not; the settings source says which only in prose."""
    lines = []
    for name, field in kind.model_fields.items():
        given = os.environ.get(_prefix(kind) + name.upper())
        if given is None or get_origin(field.annotation) not in (dict, list, tuple, set, frozenset):
            continue
        try:
            json.loads(given)
        except ValueError:
            lines.append(_line(kind, (name,), "must be JSON"))
    return lines or ["a variable that must be JSON is not"]


def _unknown_variables(kind: type[ServiceSettings]) -> list[str]:
    """A misspelled variable would be ignored in silence, and its default taken."""
    prefix = _prefix(kind)
    if not prefix:
        return []
    known = {prefix + name.upper() for name in kind.model_fields}
    given = [name for name in os.environ if name.upper().startswith(prefix) and name.upper() not in known]
    lines = []
    for name in sorted(given):
        near = get_close_matches(name.upper(), known, n=1)
        lines.append(f"{name}: is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def describe(settings: ServiceSettings) -> str:
    """The effective settings as JSON, secrets masked."""
    shown = {name: redacted(name, value) for name, value in settings.model_dump(mode="json").items()}
    return json.dumps(shown, indent=2, sort_keys=True)
