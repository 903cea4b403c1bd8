"""The tools that come with Errand, listed one by one: nothing is discovered at run time."""

from errand_tools.builtin import (
    calculator,
    convert_units,
    csv_query,
    current_time,
    date_difference,
    find_pattern,
    http_get,
    json_query,
    run_python,
    search_knowledge,
    text_statistics,
)
from errand_tools.builtin.base import BuiltinTool, Services

BUILTIN_TOOLS: tuple[BuiltinTool, ...] = (
    calculator.TOOL,
    convert_units.TOOL,
    current_time.TOOL,
    date_difference.TOOL,
    run_python.TOOL,
    text_statistics.TOOL,
    search_knowledge.TOOL,
    http_get.TOOL,
    json_query.TOOL,
    find_pattern.TOOL,
    csv_query.TOOL,
)

__all__ = ["BUILTIN_TOOLS", "BuiltinTool", "Services"]
