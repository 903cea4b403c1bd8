"""Filters and metadata that make no sense are refused with the cure."""

import pytest
from errand_common.errors import InvalidArgument
from errand_rag.domain.filters import (
    AllOf,
    Condition,
    Filter,
    MetadataType,
    MetadataValue,
    NoneOf,
    Operator,
    check_filter,
    check_metadata,
    check_schema,
)

ONE = Condition("year", Operator.EQUAL, (1.0,))


def nested(levels: int) -> Filter:
    node: Filter = ONE
    for _ in range(levels):
        node = NoneOf((node,))
    return node


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (nested(6), "6 deep"),
        (AllOf((ONE,) * 65), "64 conditions"),
        (Condition("year", Operator.EQUAL), "0 values"),
        (Condition("year", Operator.LESS, (1.0, 2.0)), "2 values"),
        (Condition("year", Operator.IN), "0 values"),
        (Condition("year", Operator.EXISTS, (1.0,)), "1 values"),
        (Condition("draft", Operator.LESS, (True,)), "no order"),
        (Condition("size_bytes", Operator.LESS, ("x",)), "compared with a number"),
    ],
)
def test_nonsense_is_refused(node: Filter, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_filter(node)


def test_the_largest_filter_passes() -> None:
    check_filter(nested(5))
    check_filter(AllOf((ONE,) * 64))


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"yeer": 1.0}, "not in the collection's schema; it has draft, year"),
        ({"year": "1"}, "is a string; the schema asks for a number"),
        ({"draft": 1.0}, "is a number; the schema asks for a boolean"),
        ({"filename": "x"}, "set by the service"),
    ],
)
def test_metadata_outside_the_schema_is_refused(metadata: dict[str, MetadataValue], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_metadata(metadata, {"year": MetadataType.NUMBER, "draft": MetadataType.BOOLEAN})


def test_without_a_schema_any_field_passes_but_ours() -> None:
    check_metadata({"anything": True}, {})
    with pytest.raises(InvalidArgument):
        check_metadata({"title": "x"}, {})
    with pytest.raises(InvalidArgument):
        check_schema({"created_at": MetadataType.STRING})
