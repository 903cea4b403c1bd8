"""Unit conversion with the names people use."""

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from errand_tools.builtin.base import BuiltinTool, computed
from errand_tools.builtin.units import ALIASES, CURRENCIES
from errand_tools.domain.tools import JsonObject, ToolFailed

if TYPE_CHECKING:
    import pint

_SIGNIFICANT_DIGITS = 6
# Only what a unit is written with reaches pint's expression parser: no numbers to raise to a power.
_UNIT = re.compile(r"^[A-Za-zµμ°Ω%\"' ._/*·^²³()-]{1,60}[1-4]?$")


@cache
def registry() -> "pint.UnitRegistry[Any]":
    """The units; the first call takes most of a second, so it is made at start-up."""
    # Here, not above: importing pint would hold up every start of the process.
    import pint  # noqa: PLC0415

    units: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=None)
    units.parse_units("kilometer")
    return units


def convert(value: float, from_unit: str, to_unit: str) -> JsonObject:
    """The value in the other unit. Raises ToolFailed for unknown and incompatible units."""
    # Here for the same reason as above.
    from pint.errors import PintError  # noqa: PLC0415

    source, target = _parse(from_unit), _parse(to_unit)
    try:
        # Equal base units, not only equal dimensions: bytes and degrees are both plain numbers.
        if _base(source) != _base(target):
            raise ToolFailed(
                f"Cannot convert {from_unit[:40]} to {to_unit[:40]}: they measure different things"
                f" ({_kind(source)} and {_kind(target)})."
            )
        converted = _converted(float(value), source, target)
    except (ArithmeticError, ValueError):
        raise ToolFailed(f"{value:g} {from_unit[:40]} is out of range.") from None
    except PintError:
        # Compounds that have no base, such as a product with a temperature in degrees.
        raise ToolFailed(f"Cannot convert {from_unit[:40]} to {to_unit[:40]}.") from None
    return {"result": _rounded(converted), "unit": _name(target)}


def _converted(value: float, source: "pint.Unit", target: "pint.Unit") -> float:
    quantity = registry().Quantity(value, source)
    if _base(source) == "kelvin" and quantity.to("kelvin").magnitude < 0:
        raise ToolFailed(f"{value:g} {_name(source)} is below absolute zero.")
    return float(quantity.to(target).magnitude)


def _base(unit: "pint.Unit") -> str:
    return str(registry().get_base_units(unit)[1])


def _name(unit: "pint.Unit") -> str:
    """The unit's name in words: 'square foot', 'kilometer per hour'."""
    terms = [_term(term) for term in str(unit).replace("_", " ").split(" / ")]
    return " per ".join(terms)


def _term(term: str) -> str:
    match = re.fullmatch(r"([A-Za-z ]+) \*\* ([23])", term)
    if match is None:
        return term
    return f"{'square' if match[2] == '2' else 'cubic'} {match[1]}"


def _rounded(value: float) -> int | float:
    if not math.isfinite(value):
        raise ToolFailed("The result is too large.")
    rounded = float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _kind(unit: "pint.Unit") -> str:
    if unit.dimensionless:
        return {"bit": "data", "radian": "angle"}.get(_base(unit), "plain numbers")
    return str(unit.dimensionality).replace("[", "").replace("]", "")


def _parse(name: str) -> "pint.Unit":
    text = " ".join(name.split())
    if text.lower() in CURRENCIES:
        raise ToolFailed(f"'{text}' is a currency; exchange rates are not known here.")
    if not _UNIT.match(text):
        raise _unknown(name)
    for spelling in _spellings(text):
        unit = _unit(spelling)
        if unit is not None:
            return unit
    raise _unknown(name)


def _spellings(text: str) -> list[str]:
    """How pint may know it: by our alias, as written, in lower case, in singular."""
    lower = text.lower().strip(". ")
    plain = re.sub(r"^(?:degrees?|deg|°)\s*", "", lower)
    compound = re.sub(r"\s+per\s+|\s*/\s*", "/", lower)
    parts = [_alias(part) for part in compound.split("/")]
    candidates = [ALIASES.get(text), ALIASES.get(lower), ALIASES.get(plain)]
    if len(parts) == 2:
        candidates.append("/".join(parts))
    squared = re.match(r"^(square|sq|cubic|cu)\.?\s+(.+)$", lower)
    if squared:
        power = 2 if squared.group(1).startswith("sq") else 3
        candidates.append(f"{_alias(squared.group(2))}**{power}")
    candidates += [text, lower, lower.rstrip("s"), lower.replace(" ", "_")]
    return [candidate for candidate in candidates if candidate]


def _alias(name: str) -> str:
    trimmed = name.strip()
    return ALIASES.get(trimmed, trimmed)


def _unit(spelling: str) -> "pint.Unit | None":
    try:
        unit = registry().parse_units(spelling)
    except Exception:  # pint's parser raises many kinds for text that is no unit
        return None
    return None if str(unit) == "dimensionless" else unit


def _unknown(name: str) -> ToolFailed:
    return ToolFailed(
        f"The unit '{name.strip()[:40]}' is not known; use a name such as kilometer, pound, celsius or liter."
    )


def _run(arguments: JsonObject) -> JsonObject:
    return convert(arguments["value"], arguments["from_unit"], arguments["to_unit"])


TOOL = BuiltinTool(
    name="convert_units",
    description=("Convert a value between units: length, weight, temperature, volume, speed, area, time, data."),
    parameters={
        "type": "object",
        "properties": {
            "from_unit": {"type": "string", "description": "Unit of the value"},
            "to_unit": {"type": "string", "description": "Unit wanted"},
            "value": {"type": "number", "description": "The value"},
        },
        "required": ["value", "from_unit", "to_unit"],
        "additionalProperties": False,
    },
    build=computed(_run),
    timeout_ms=5_000,
)
