"""A thin client of the REST API, for the commands of the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

_TIMEOUT = httpx.Timeout(130.0, connect=10.0)


class ApiError(Exception):
    """Why a request got no good answer; `retry_after_seconds` when it may work then."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Client:
    """Speaks to one gateway with one key; every method raises ApiError when it gets no answer or a refusal."""

    def __init__(self, url: str, key: str) -> None:
        if not (key.isascii() and key.isprintable()):
            raise ApiError("The API key has characters that no key has; was it copied whole?")
        self._url = url
        with _reaching(url):
            self._http = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=_TIMEOUT)

    def chat(self, message: str, *, agent: str = "", conversation_id: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a run, as (name, data)."""
        body = {"message": message}
        body |= {"agent": agent} if agent else {}
        body |= {"conversation_id": conversation_id} if conversation_id else {}
        yield from self._stream("POST", "/api/v1/chat", json=body)

    def follow(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events at a path, as (name, data)."""
        yield from self._stream("GET", path)

    def _stream(self, method: str, path: str, **request: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"}
        with _reaching(self._url), self._http.stream(method, path, headers=headers, **request) as response:
            if not response.is_success:
                response.read()
                raise _error(response)
            yield from _events(response.iter_lines())

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with _reaching(self._url):
            return self._http.request(method, path, **request)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON object at a path."""
        return _checked(self._send("GET", path, params=query))

    def get_run(self, run_id: str) -> dict[str, Any]:
        """A run with its steps."""
        return self.get(f"/api/v1/runs/{quote(run_id, safe='')}")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Posts JSON."""
        return _checked(self._send("POST", path, json=body))

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Changes by JSON."""
        return _checked(self._send("PATCH", path, json=body))

    def delete(self, path: str) -> dict[str, Any]:
        """Deletes what is at a path."""
        return _checked(self._send("DELETE", path))

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All rows of a listing, page by page."""
        token = ""
        while True:
            page = self.get(path, page_size=200, page_token=token, **query)
            yield from page["items"]
            token = page["next_page_token"]
            if not token:
                return

    def ensure_collection(self, name: str) -> None:
        """Makes the collection unless it is there."""
        response = self._send("GET", f"/api/v1/collections/{quote(name, safe='')}")
        if response.status_code == httpx.codes.NOT_FOUND:
            self.post("/api/v1/collections", {"name": name})
        else:
            _checked(response)

    def upload(self, collection: str, path: Path, *, name: str = "", **fields: str) -> dict[str, Any]:
        """Uploads a file, under another name when one is given, with form fields."""
        target = f"/api/v1/collections/{quote(collection, safe='')}/documents"
        with path.open("rb") as file:
            return _checked(self._send("POST", target, files={"file": (name or path.name, file)}, data=fields))


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """What went wrong on the way to the gateway, in one line."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ApiError(f"The gateway at {url} did not answer in time; `errand doctor` checks it.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ApiError(f"The gateway at {url} cannot be reached ({reason}); is the address right?") from error


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
    if not response.is_success:
        raise _error(response)
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(f"What answers at {response.url} is no gateway: it sent no JSON object.")
    return body


def _error(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
        message = f"{body['code']}: {body['message']}"
    except (ValueError, KeyError, TypeError):
        elsewhere = response.headers.get("location", "")
        message = f"HTTP {response.status_code} from {response.url}" + (
            f", which is at {elsewhere}" if elsewhere else ""
        )
    return ApiError(message, retry_after_seconds=_retry_after(response))


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdigit() else None
