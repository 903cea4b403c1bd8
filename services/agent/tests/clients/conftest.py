"""A real MLflow in this process: its own REST API over its own tables."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest


@dataclass(frozen=True)
class Mlflow:
    """`http` reaches its API under any host, `client` is its own."""

    http: httpx.AsyncClient
    client: Any


@pytest.fixture
async def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mlflow]:
    from mlflow import MlflowClient  # noqa: PLC0415 - it takes a second to load
    from mlflow.server import app, handlers  # noqa: PLC0415
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry  # noqa: PLC0415
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking  # noqa: PLC0415

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(handlers, "_tracking_store", Tracking(uri, str(tmp_path / "files")))
    monkeypatch.setattr(handlers, "_model_registry_store", Registry(uri))
    served = app.test_client()

    def answer(request: httpx.Request) -> httpx.Response:
        got = served.open(
            request.url.path,
            method=request.method,
            query_string=request.url.query,
            data=request.content,
            content_type=request.headers.get("content-type"),
        )
        return httpx.Response(got.status_code, content=got.data, headers={"content-type": "application/json"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        yield Mlflow(http, MlflowClient(tracking_uri=uri, registry_uri=uri))
