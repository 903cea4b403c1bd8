"""The calculator: exact where a fraction is exact, 15 digits where it is not."""

from fractions import Fraction

from errand_tools.builtin.arithmetic import ArithmeticFault, evaluate
from errand_tools.builtin.base import BuiltinTool, computed, one_text
from errand_tools.domain.tools import JsonObject, ToolFailed

_SHOWN_DIGITS = 15


def calculate(expression: str) -> int | float:
    """The value: whole numbers stay whole. Raises ToolFailed with one sentence for the model."""
    try:
        return _shown(evaluate(expression))
    except ArithmeticFault as fault:
        raise ToolFailed(str(fault)) from None


def _shown(value: Fraction) -> int | float:
    if value.denominator == 1:
        return value.numerator
    try:
        shown = float(f"{float(value):.{_SHOWN_DIGITS}g}")
    except OverflowError:
        return round(value)
    return int(shown) if shown.is_integer() and abs(shown) < 10**_SHOWN_DIGITS else shown


def _run(arguments: JsonObject) -> JsonObject:
    return {"result": calculate(arguments["expression"])}


TOOL = BuiltinTool(
    name="calculator",
    description=("Calculate an arithmetic expression: add, subtract, multiply, divide, percent, powers, square roots."),
    parameters=one_text("expression", "The expression"),
    build=computed(_run, inline_characters=100),
    timeout_ms=2_000,
)
