"""The bundled model is trained on exactly the built-in tools that the tools service offers."""

import json
from importlib import resources

from errand_tools.builtin import BUILTIN_TOOLS


def test_the_model_and_the_service_name_the_same_tools() -> None:
    trained_on = json.loads(
        resources.files("errand_inference.training").joinpath("builtin_tools.json").read_text("utf-8")
    )
    offered = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in BUILTIN_TOOLS
    ]
    assert offered == trained_on
