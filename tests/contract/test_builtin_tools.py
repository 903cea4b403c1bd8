"""The bundled model is trained on exactly the tools that the default agent offers, as the tools service has them."""

import json
from importlib import resources
from typing import Any

import pytest
from errand_agent.domain.agents import BUILTIN_TOOLS as OFFERED_BY_DEFAULT
from errand_tools.builtin import BUILTIN_TOOLS


@pytest.fixture
def trained_on() -> Any:
    text = resources.files("errand_inference.training").joinpath("builtin_tools.json").read_text("utf-8")
    return json.loads(text)


def test_the_model_and_the_service_name_the_same_tools(trained_on: Any) -> None:
    kept = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in BUILTIN_TOOLS
        if tool.name in OFFERED_BY_DEFAULT
    ]
    assert kept == trained_on


def test_tools_the_model_does_not_know_are_not_offered_by_default(trained_on: Any) -> None:
    assert [tool["name"] for tool in trained_on] == list(OFFERED_BY_DEFAULT)
