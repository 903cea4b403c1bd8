"""Texts with placeholders, in Jinja's sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from errand_common.errors import InvalidArgument
from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Texts that a template may make; more is a fault of the template.
LONGEST_TEXT = 32_768


class _Bounded(ImmutableSandboxedEnvironment):
    """Also refuses what makes much of little: a text a billion times, or a number with as many digits."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Only of plain numbers, and no powers."""
        if operator == "**" or not (_is_number(left) and _is_number(right)):
            raise TypeError(f"{operator!r} is not for texts, and powers are not taken")
        return super().call_binop(context, operator, left, right)


_TEMPLATES = _Bounded(undefined=StrictUndefined, autoescape=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def check_template(template: str, known: Set[str], field: str) -> None:
    """Raises InvalidArgument for what is no template, or names what is not known."""
    try:
        used = meta.find_undeclared_variables(_TEMPLATES.parse(template))
    except TemplateError as error:
        raise InvalidArgument(f"{field}: the template is not one: {error}.", field=field) from error
    if unknown := sorted(used - known):
        told = f"{unknown[0]!r} is not known here; known are {', '.join(sorted(known))}"
        raise InvalidArgument(f"{field}: {told}.", field=field)


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text; raises ValueError when the template fails or makes too much."""
    try:
        text = _TEMPLATES.from_string(template).render(values)
    except (TemplateError, TypeError, ArithmeticError, LookupError, OverflowError, MemoryError) as error:
        raise ValueError(f"its template failed: {error}") from error
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"its template made {len(text)} characters; at most {LONGEST_TEXT} are taken")
    return text
