"""MLflow's prompts, read over REST as its server answers."""

from typing import Any

import httpx
import pytest
from errand_agent.clients.mlflow_prompts import MlflowPrompts
from errand_agent.domain.prompts import Registered
from errand_common.errors import Unavailable

PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}
TEMPLATES = {1: "Be kind.", 2: "Be short.", 3: "Be exact, {{ user }}."}
MODELS: dict[str, Any] = {
    "acme.tone": {"name": "acme.tone", "tags": [PROMPT], "aliases": [{"alias": "live", "version": "2"}]},
    "acme.weights": {"name": "acme.weights"},
}


def _version(number: int) -> dict[str, Any]:
    tags = [PROMPT, {"key": "mlflow.prompt.text", "value": TEMPLATES[number]}]
    return {"name": "acme.tone", "version": str(number), "tags": tags}


def _answer(request: httpx.Request) -> httpx.Response:
    asked, path = request.url.params, request.url.path.removeprefix("/api/2.0/mlflow/")
    if path == "registered-models/get":
        if (model := MODELS.get(asked["name"])) is None:
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
        return httpx.Response(200, json={"registered_model": model})
    if path == "model-versions/get":
        return httpx.Response(200, json={"model_version": _version(int(asked["version"]))})
    assert path == "model-versions/search"
    # Without the tag MLflow leaves prompts out.
    assert asked["filter"] == "name = 'acme.tone' AND tag.`mlflow.prompt.is_prompt` = 'true'"
    assert (asked["order_by"], asked["max_results"]) == ("version_number DESC", "1")
    return httpx.Response(200, json={"model_versions": [_version(max(TEMPLATES))]})


async def test_the_newest_version_and_those_of_aliases_are_read() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(_answer)) as http:
        prompts = MlflowPrompts(http, "http://mlflow/")
        found = Registered(3, {3: "Be exact, {{ user }}.", 2: "Be short."}, {"live": 2})
        assert await prompts.find("acme", "tone") == found
        assert await prompts.find("other", "tone") is None, "it is another tenant's"
        assert await prompts.find("acme", "weights") is None, "a model is no prompt"


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="<html>"), httpx.ConnectError("no")])
async def test_a_registry_that_is_away_is_named(answer: httpx.Response | Exception) -> None:
    def serve(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve)) as http:
        with pytest.raises(Unavailable, match="MLflow's prompt registry"):
            await MlflowPrompts(http, "http://mlflow").find("acme", "tone")
