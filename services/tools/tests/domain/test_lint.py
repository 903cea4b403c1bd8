"""What a small model stumbles over."""

from dataclasses import replace
from typing import Any

import pytest
from errand_tools.builtin import BUILTIN_TOOLS
from errand_tools.domain.lint import rate
from errand_tools.domain.tools import Tool

CITY = {"type": "string", "description": "The city"}


def tool(name: str = "get_weather", description: str = "Current weather of a city.", **properties: Any) -> Tool:
    return Tool(name, description, {"type": "object", "properties": properties or {"city": CITY}})


def test_a_good_tool_has_no_findings() -> None:
    rating = rate(tool(), [tool(), tool("send_mail", "Sends a message to a person.")])
    assert (rating.score, rating.findings) == (100, ())


@pytest.mark.parametrize(
    ("bad", "rule", "argument"),
    [
        (tool(description="Weather."), "description_short", ""),
        (tool(description="Current weather of a city. " * 20), "description_long", ""),
        (tool(name="get_data"), "name_vague", ""),
        (tool(name="f1"), "name_vague", ""),
        (tool(**{f"a{n}": CITY for n in range(6)}), "arguments_many", ""),
        (tool(city={"type": "string"}), "argument_description", "city"),
        (tool(city={"description": "The city"}), "argument_type", "city"),
        (tool(where={**CITY, "type": "object", "properties": {"city": CITY}}), "argument_nested", "where"),
    ],
)
def test_each_fault_is_found(bad: Tool, rule: str, argument: str) -> None:
    rating = rate(bad, [])
    [finding] = rating.findings
    assert (finding.rule, finding.argument) == (rule, argument)
    assert rating.score < 100


@pytest.mark.parametrize(
    ("other", "rule"),
    [
        (tool("get_weathers", "Something else."), "name_ambiguous"),
        (tool("getWeather", "Something else."), "name_ambiguous"),
        (tool("forecast", "The current weather of a city."), "description_ambiguous"),
    ],
)
def test_what_looks_alike_is_found(other: Tool, rule: str) -> None:
    assert [finding.rule for finding in rate(tool(), [other]).findings] == [rule]


def test_the_gravest_comes_first_and_nothing_is_below_zero() -> None:
    bad = tool("run", "Runs.", **{f"a{n}": {} for n in range(20)})
    rating = rate(bad, [])
    assert (rating.score, rating.findings[0].rule) == (0, "description_short")


@pytest.mark.parametrize("builtin", BUILTIN_TOOLS, ids=lambda builtin: builtin.name)
def test_our_own_tools_are_good(builtin: Any) -> None:
    others = [other.as_tool() for other in BUILTIN_TOOLS]
    assert rate(replace(builtin.as_tool()), others).score >= 90
