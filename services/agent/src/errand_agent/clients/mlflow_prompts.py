"""MLflow's prompt registry: the prompt NAME of a tenant is there as TENANT.NAME."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
from errand_common.errors import Unavailable

from errand_agent.clients.mlflow import open_api
from errand_agent.domain.prompts import Registered

_SECONDS = 5.0
_MOST_ALIASES = 20
_IS_PROMPT = "mlflow.prompt.is_prompt"
_TEXT = "mlflow.prompt.text"
# As the contract has them.
_ALIAS = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class MlflowPrompts:
    """Reads prompts over MLflow's REST API."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, f"{url.rstrip('/')}/api/2.0/mlflow"

    async def find(self, tenant_id: str, name: str) -> Registered | None:
        """A tenant's prompt, None where there is none. Raises Unavailable."""
        whole = f"{tenant_id}.{name}"
        try:
            found = await self._get("registered-models/get", {"name": whole})
            if found is None or _tags(found["registered_model"]).get(_IS_PROMPT) != "true":
                return None
            return await self._registered(whole, found["registered_model"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Unavailable("mlflow", f"MLflow's prompt registry gave no answer: {type(error).__name__}.") from error

    async def _registered(self, whole: str, model: Mapping[str, Any]) -> Registered | None:
        newest = await self._newest(whole)
        if newest is None:
            return None
        templates = {int(newest["version"]): _tags(newest)[_TEXT]}
        named = [one for one in model.get("aliases", []) if _ALIAS.match(one["alias"])][:_MOST_ALIASES]
        aliases = {one["alias"]: int(one["version"]) for one in named}
        for version in set(aliases.values()) - set(templates):
            found = await self._get("model-versions/get", {"name": whole, "version": str(version)})
            if found is not None:
                templates[version] = _tags(found["model_version"])[_TEXT]
        return Registered(int(newest["version"]), templates, aliases)

    async def _newest(self, whole: str) -> Mapping[str, Any] | None:
        query = f"name = '{whole}' AND tag.`{_IS_PROMPT}` = 'true'"
        asked = {"filter": query, "max_results": "1", "order_by": "version_number DESC"}
        found = await self._get("model-versions/search", asked)
        versions: list[Mapping[str, Any]] = (found or {}).get("model_versions", [])
        return versions[0] if versions else None

    async def _get(self, path: str, asked: Mapping[str, str]) -> Any:
        """None for what is not there."""
        answer = await self._http.get(f"{self._url}/{path}", params=dict(asked))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return answer.raise_for_status().json()


def _tags(thing: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in thing.get("tags", [])}


async def open_prompts(stack: AsyncExitStack, endpoint: str | None, headers: Mapping[str, str]) -> MlflowPrompts | None:
    """None unless spans go to MLflow itself; closed with the stack."""
    opened = await open_api(stack, endpoint, headers, seconds=_SECONDS)
    return None if opened is None else MlflowPrompts(*opened)
