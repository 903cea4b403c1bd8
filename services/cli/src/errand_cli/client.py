"""A thin client of the REST API, for the commands of the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

_TIMEOUT_SECONDS = 130.0


class ApiError(Exception):
    """What the gateway said against a request."""


class Client:
    """Speaks to one gateway with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=_TIMEOUT_SECONDS)

    def chat(self, message: str, *, agent: str = "", conversation_id: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a run, as (name, data); raises ApiError."""
        body = {"message": message}
        body |= {"agent": agent} if agent else {}
        body |= {"conversation_id": conversation_id} if conversation_id else {}
        headers = {"Accept": "text/event-stream"}
        with self._http.stream("POST", "/api/v1/chat", json=body, headers=headers) as response:
            if response.is_error:
                response.read()
                raise _error(response)
            yield from _events(response.iter_lines())

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON object at a path; raises ApiError."""
        return _checked(self._http.get(path, params=query))

    def get_run(self, run_id: str) -> dict[str, Any]:
        """A run with its steps; raises ApiError."""
        return self.get(f"/api/v1/runs/{quote(run_id, safe='')}")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Posts JSON; raises ApiError."""
        return _checked(self._http.post(path, json=body))

    def ensure_collection(self, name: str) -> None:
        """Makes the collection unless it is there; raises ApiError."""
        response = self._http.get(f"/api/v1/collections/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            self.post("/api/v1/collections", {"name": name})
        else:
            _checked(response)

    def upload(self, collection: str, path: Path) -> dict[str, Any]:
        """Uploads a file; raises ApiError."""
        with path.open("rb") as file:
            return _checked(
                self._http.post(f"/api/v1/collections/{collection}/documents", files={"file": (path.name, file)})
            )


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name, data = "", ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield name, json.loads(data)
            name, data = "", ""


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise _error(response)
    body: dict[str, Any] = response.json() if response.content else {}
    return body


def _error(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
        return ApiError(f"{body['code']}: {body['message']}")
    except (ValueError, KeyError, TypeError):
        return ApiError(f"HTTP {response.status_code}")
