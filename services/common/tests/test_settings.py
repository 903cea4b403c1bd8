"""Settings: bounds, names in errors, masked secrets."""

import json

import pytest
from errand_common.settings import ServiceSettings, SettingsError, describe, load_settings
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict


class _Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ERRAND_TEST_", extra="forbid")
    api_key: SecretStr = SecretStr("")


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TEST_PORT", "70000")
    monkeypatch.setenv("ERRAND_TEST_LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as raised:
        load_settings(_Settings)
    lines = str(raised.value).splitlines()
    assert {line.split(":")[0] for line in lines} == {"ERRAND_TEST_PORT", "ERRAND_TEST_LOG_LEVEL"}
    assert "65535" in str(raised.value)


def test_secrets_are_masked_when_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TEST_API_KEY", "canary-secret")
    monkeypatch.setenv("ERRAND_TEST_DATABASE_URL", "postgresql+asyncpg://u:canary-secret@db/x")
    shown = describe(load_settings(_Settings))
    assert "canary-secret" not in shown
    assert json.loads(shown)["port"] == 0


def test_without_a_database_url_it_is_sqlite_in_the_data_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ERRAND_TEST_DATA_DIR", str(tmp_path / "data"))
    settings = load_settings(_Settings)
    assert settings.database("agent") == f"sqlite+aiosqlite:///{tmp_path}/data/agent.db"
    assert settings.is_embedded
    monkeypatch.setenv("ERRAND_TEST_DATABASE_URL", "postgresql+asyncpg://u@db/x")
    assert not load_settings(_Settings).is_embedded


def test_a_misspelled_variable_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TEST_LOG_LEVLE", "debug")
    with pytest.raises(SettingsError, match=r"ERRAND_TEST_LOG_LEVLE: .* did you mean ERRAND_TEST_LOG_LEVEL"):
        load_settings(_Settings)


def test_a_variable_that_must_be_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TEST_OTLP_HEADERS", "authorization: canary-secret")
    with pytest.raises(SettingsError, match=r"^ERRAND_TEST_OTLP_HEADERS: must be JSON") as raised:
        load_settings(_Settings)
    assert "canary-secret" not in str(raised.value)


def test_headers_and_urls_are_masked_when_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TEST_OTLP_HEADERS", '{"Authorization": "canary-secret", "x-mlflow-experiment-id": "7"}')
    monkeypatch.setenv("ERRAND_TEST_JWKS", "https://user:canary-secret@gateway/jwks")
    shown = describe(load_settings(_Settings))
    assert "canary-secret" not in shown
    assert json.loads(shown)["otlp_headers"]["x-mlflow-experiment-id"] == "7"
