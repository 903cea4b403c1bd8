"""JMESPath: what it finds, and what it must not be talked into."""

import json
from typing import Any

import pytest
from errand_tools.builtin.json_query import query
from errand_tools.domain.tools import ToolFailed

SHOP = json.dumps({"items": [{"name": "pen", "price": 2}, {"name": "book", "price": 12}], "open": True})


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("items[0].name", "pen"),
        ("items[-1].name", "book"),
        ("items[*].price", [2, 12]),
        ("items[?price > `5`].name", ["book"]),
        ("length(items)", 2),
        ("sum(items[*].price)", 14),
        ("sort_by(items, &price)[0].name", "pen"),
        ("max_by(items, &price).name", "book"),
        ("items[*].{n: name}", [{"n": "pen"}, {"n": "book"}]),
        ("items[].name | [0]", "pen"),
        ("keys(@)", ["items", "open"]),
        ("missing.deeper", None),
        ("open && 'yes'", "yes"),
    ],
)
def test_finds(expression: str, result: Any) -> None:
    assert query(SHOP, expression) == result


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("{", "a"),
        ("[" * 100_000, "a"),
        ('"' + "x" * 500_001 + '"', "@"),
        (SHOP, ""),
        (SHOP, "items["),
        (SHOP, "x" * 501),
        (SHOP, "sum(open)"),
        (SHOP, "nofunction(@)"),
        (SHOP, "to_string(@)"),
        (SHOP, "join(',', items[*].name)"),
        (SHOP, "(" * 400),
        (SHOP, "[@, @] | [@, @]"),
        (SHOP, "[@, @][] | [@, @][] | [@, @][]"),
        (SHOP, "[" + ", ".join("@" * 17) + "]"),
        (SHOP, "map(&[@, @], items)"),
    ],
)
def test_refuses(text: str, expression: str) -> None:
    with pytest.raises(ToolFailed) as refused:
        query(text, expression)
    assert refused.value.message.endswith(".")
    assert len(refused.value.message) < 400
