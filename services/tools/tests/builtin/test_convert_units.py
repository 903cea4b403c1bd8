"""Unit conversion with the names people use."""

import pytest
from errand_tools.builtin.convert_units import convert
from errand_tools.domain.tools import ToolFailed


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "result", "unit"),
    [
        (10, "miles", "km", 16.0934, "kilometer"),
        (5, "KM", "Mile", 3.10686, "mile"),
        (3, "kilometre", "metres", 3000, "meter"),
        (72, "in", "cm", 182.88, "centimeter"),
        (6, "feet", "meters", 1.8288, "meter"),
        (1, "nautical miles", "km", 1.852, "kilometer"),
        (1, "light years", "km", 9.46073e12, "kilometer"),
        (100, "fahrenheit", "celsius", 37.7778, "degree Celsius"),
        (100, "°F", "°C", 37.7778, "degree Celsius"),
        (37, "degrees Celsius", "Fahrenheit", 98.6, "degree Fahrenheit"),
        (20, "C", "F", 68, "degree Fahrenheit"),
        (0, "celsius", "kelvin", 273.15, "kelvin"),
        (5, "Pounds", "Kilograms", 2.26796, "kilogram"),
        (10, "kg", "lbs", 22.0462, "pound"),
        (1, "stone", "kg", 6.35029, "kilogram"),
        (8, "oz", "grams", 226.796, "gram"),
        (1, "tonne", "lb", 2204.62, "pound"),
        (60, "mph", "kilometers per hour", 96.5606, "kilometer per hour"),
        (60, "miles per hour", "km/h", 96.5606, "kilometer per hour"),
        (100, "km/h", "m/s", 27.7778, "meter per second"),
        (3, "cups", "ml", 709.765, "milliliter"),
        (1, "gallon", "litres", 3.78541, "liter"),
        (5, "fl oz", "ml", 147.868, "milliliter"),
        (2, "tablespoons", "teaspoons", 6, "teaspoon"),
        (2, "square meters", "square feet", 21.5278, "square foot"),
        (1, "sq ft", "m2", 0.092903, "square meter"),
        (1, "acre", "hectares", 0.404687, "hectare"),
        (3, "cubic feet", "liters", 84.9505, "liter"),
        (1, "day", "seconds", 86400, "second"),
        (90, "mins", "hours", 1.5, "hour"),
        (2, "weeks", "days", 14, "day"),
        (1, "GB", "MB", 1000, "megabyte"),
        (8, "Mb", "MB", 1, "megabyte"),
        (1, "MiB", "KiB", 1024, "kibibyte"),
        (1, "Mbps", "MB/s", 0.125, "megabyte per second"),
        (1, "kWh", "J", 3600000, "joule"),
        (1, "psi", "bar", 0.0689476, "bar"),
        (180, "degrees", "radians", 3.14159, "radian"),
        (1, "horsepower", "watts", 745.7, "watt"),
        (-40, "celsius", "fahrenheit", -40, "degree Fahrenheit"),
        (0, "km", "miles", 0, "mile"),
        (1, "meters per second squared", "ft/s^2", 3.28084, "foot per square second"),
    ],
)
def test_conversion(value: float, from_unit: str, to_unit: str, result: float, unit: str) -> None:
    converted = convert(value, from_unit, to_unit)
    assert converted == {"result": pytest.approx(result, rel=1e-5), "unit": unit}


def test_whole_results_are_whole_numbers() -> None:
    assert type(convert(3, "km", "m")["result"]) is int


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "words"),
    [
        (1, "foo", "km", "'foo' is not known"),
        (1, "km", "", "'' is not known"),
        (1, "km", "kg", "different things (length and mass)"),
        (1, "byte", "degrees", "different things (data and angle)"),
        (1, "hours", "miles", "different things"),
        (100, "dollars", "euros", "currency"),
        (-500, "celsius", "kelvin", "below absolute zero"),
        (1e308, "km", "nm", "too large"),
        (-5, "microns kilometers", "decade qt", "Cannot convert"),
    ],
)
def test_wrong_input(value: float, from_unit: str, to_unit: str, words: str) -> None:
    with pytest.raises(ToolFailed, match=r"^[^\n]{1,250}\.$") as failed:
        convert(value, from_unit, to_unit)
    assert words in failed.value.message


@pytest.mark.parametrize(
    "unit",
    [
        "meter**9999999",
        "10**10**10",
        "__import__('os')",
        "m" * 1000,
        "((((((((((((((((((((((((((((((",
        "meter ^ meter",
        "9e999 m",
        "\x00",
        "m/",
        "<start_of_turn>",
    ],
)
def test_expressions_do_not_reach_the_parser(unit: str) -> None:
    with pytest.raises(ToolFailed):
        convert(1, unit, "km")
