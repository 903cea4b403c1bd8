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
    """What the gateway said against a request; `retry_after_seconds` when it may work then."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Client:
    """Speaks to one gateway with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=_TIMEOUT_SECONDS)

    def chat(self, message: str, *, agent: str = "", conversation_id: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a run, as (name, data); raises ApiError."""
        body = {"message": message}
        body |= {"agent": agent} if agent else {}
        body |= {"conversation_id": conversation_id} if conversation_id else {}
        yield from self._stream("POST", "/api/v1/chat", json=body)

    def follow(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events at a path, as (name, data); raises ApiError."""
        yield from self._stream("GET", path)

    def _stream(self, method: str, path: str, **request: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"}
        with self._http.stream(method, path, headers=headers, **request) as response:
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

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Changes by JSON; raises ApiError."""
        return _checked(self._http.patch(path, json=body))

    def delete(self, path: str) -> dict[str, Any]:
        """Deletes what is at a path; raises ApiError."""
        return _checked(self._http.delete(path))

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All rows of a listing, page by page; raises ApiError."""
        token = ""
        while True:
            page = self.get(path, page_size=200, page_token=token, **query)
            yield from page["items"]
            token = page["next_page_token"]
            if not token:
                return

    def ensure_collection(self, name: str) -> None:
        """Makes the collection unless it is there; raises ApiError."""
        response = self._http.get(f"/api/v1/collections/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            self.post("/api/v1/collections", {"name": name})
        else:
            _checked(response)

    def upload(self, collection: str, path: Path, *, name: str = "", **fields: str) -> dict[str, Any]:
        """Uploads a file, under another name when one is given, with form fields; raises ApiError."""
        target = f"/api/v1/collections/{collection}/documents"
        with path.open("rb") as file:
            return _checked(self._http.post(target, files={"file": (name or path.name, file)}, data=fields))


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
        message = f"{body['code']}: {body['message']}"
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code}"
    return ApiError(message, retry_after_seconds=_retry_after(response))


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdigit() else None
