"""Prompts of a real MLflow: its own API, over its own tables."""

from typing import Any

import httpx
import pytest
from errand_agent.clients.mlflow_prompts import MlflowPrompts
from errand_agent.domain.prompts import Registered
from errand_common.errors import Unavailable


# Of MLflow's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_newest_version_and_those_of_aliases_are_read(mlflow: Any) -> None:
    for template in ("Be kind.", "Be short.", "Be exact, {{ user }}."):
        mlflow.client.register_prompt("acme.tone", template)
    mlflow.client.set_prompt_alias("acme.tone", "live", 2)
    mlflow.client.create_registered_model("acme.weights")
    prompts = MlflowPrompts(mlflow.http, "http://mlflow/")
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
