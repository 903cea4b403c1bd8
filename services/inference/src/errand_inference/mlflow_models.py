"""Models of an MLflow registry: which version an alias means now, and that version's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
from errand_common.errors import ModelUnavailable

from errand_inference.model_store import made_once

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_SECONDS = 30.0
_MOST_FILES = 1000
_MOST_ANSWER_BYTES = 8 * 1024 * 1024
_DEEPEST = 16
_NEEDED = ("config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model; `source` is where its files are."""

    name: str
    version: str
    source: str


class MlflowModels:
    """Reads a registry over MLflow's REST API. Every method blocks and raises ModelUnavailable."""

    def __init__(self, url: str, cache_dir: Path, *, most_bytes: int) -> None:
        """A version whose files are larger than `most_bytes` together is not downloaded."""
        self._cache_dir, self._most_bytes = cache_dir / "mlflow", most_bytes
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=_SECONDS, follow_redirects=False)

    def version_of(self, uri: str) -> ModelVersion:
        """The version that `models:/NAME@ALIAS` means now, or that `models:/NAME/VERSION` names."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise ModelUnavailable(f"{uri} is neither models:/NAME@ALIAS nor models:/NAME/VERSION.", model=uri)
        name = found["name"]
        if found["alias"]:
            answer = self._get(f"{_API}/registered-models/alias", uri, name=name, alias=found["alias"])
        else:
            answer = self._get(f"{_API}/model-versions/get", uri, name=name, version=found["version"])
        version = str(answer["model_version"]["version"])
        place = self._get(f"{_API}/model-versions/get-download-uri", uri, name=name, version=version)
        return ModelVersion(name, version, str(place["artifact_uri"]))

    def fetch(self, version: ModelVersion) -> Path:
        """The version's folder in Hugging Face's layout, downloaded once; a version's files never change."""
        parts = urlsplit(version.source)
        if parts.scheme in ("", "file"):
            return self._model_in(Path(unquote(parts.path)), version)
        if parts.scheme != "mlflow-artifacts":
            raise ModelUnavailable(
                f"{version.name} is stored in {parts.scheme}:; only what MLflow serves itself can be read.",
                model=version.name,
            )
        target = self._cache_dir / f"{quote(version.name, safe='')}-{quote(version.version, safe='')}"
        root = parts.path.strip("/")
        return self._model_in(made_once(target, lambda unfinished: self._download(root, unfinished, version)), version)

    def _download(self, root: str, unfinished: Path, version: ModelVersion) -> None:
        unfinished.mkdir()
        left = self._most_bytes
        for count, path in enumerate(self._files(root, version.name), start=1):
            if count > _MOST_FILES:
                raise ModelUnavailable(f"{version.name} has more than {_MOST_FILES} files.", model=version.name)
            left -= self._save(f"{root}/{path}", unfinished / path, version.name, left)

    def _files(self, root: str, model: str, folder: str = "") -> Iterator[str]:
        for entry in self._get(_ARTIFACTS, model, path=f"{root}/{folder}".rstrip("/")).get("files", ()):
            path = PurePosixPath(folder, PurePosixPath(str(entry["path"])).name)
            if len(path.parts) > _DEEPEST or ".." in path.parts:
                raise ModelUnavailable(f"{model} has a file at a place that is none: {path}.", model=model)
            if entry.get("is_dir"):
                yield from self._files(root, model, str(path))
            else:
                yield str(path)

    def _save(self, path: str, target: Path, model: str, most: int) -> int:
        """Downloads one file of at most `most` bytes; the bytes it has."""
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        try:
            with self._http.stream("GET", f"{_ARTIFACTS}/{quote(path)}") as answer:
                answer.raise_for_status()
                with target.open("wb") as file:
                    for block in answer.iter_bytes(1 << 20):
                        size += len(block)
                        if size > most:
                            raise self._too_large(model)
                        file.write(block)
        except httpx.HTTPError as error:
            raise _unreadable(model, error) from error
        return size

    def _too_large(self, model: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"{model} is larger than {self._most_bytes / 1e9:g} GB; "
            "raise ERRAND_INFERENCE_MAX_DOWNLOAD_GIGABYTES if that is right.",
            model=model,
        )

    def _get(self, path: str, model: str, /, **query: str) -> Any:
        try:
            with self._http.stream("GET", path, params=query) as answer:
                return json.loads(_bounded(answer.raise_for_status()))
        except (httpx.HTTPError, ValueError) as error:
            raise _unreadable(model, error) from error

    def _model_in(self, folder: Path, version: ModelVersion) -> Path:
        """A logged model may keep the files one folder below."""
        for candidate in (folder, *sorted(path.parent for path in folder.glob("*/config.json"))):
            if all((candidate / name).is_file() for name in _NEEDED):
                return candidate
        raise ModelUnavailable(
            f"Version {version.version} of {version.name} holds no {' and '.join(_NEEDED)}.", model=version.name
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def _bounded(answer: httpx.Response) -> bytes:
    """Raises ValueError for an answer that no registry gives."""
    body = b""
    for block in answer.iter_bytes(1 << 16):
        body += block
        if len(body) > _MOST_ANSWER_BYTES:
            raise ValueError("the answer is too long")
    return body


def _unreadable(model: str, error: Exception) -> ModelUnavailable:
    if isinstance(error, httpx.HTTPStatusError):
        reason = f"MLflow answered with status {error.response.status_code}"
    elif isinstance(error, ValueError):
        reason = "MLflow's answer cannot be read"
    else:
        reason = "MLflow cannot be reached"
    return ModelUnavailable(f"{model} cannot be read from the registry: {reason}.", model=model)
