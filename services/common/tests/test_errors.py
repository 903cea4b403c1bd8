"""The one error table against the contract's own words."""

import re
from pathlib import Path

import grpc
import pytest
from errand.common.v1 import common_pb2
from errand_common import errors
from errand_common.errors import ERROR_TABLE, ErrandError, Reason, Throttled, from_reason

_ROW = re.compile(
    r"gRPC\s+(?://\s*)?(?P<grpc>[A-Z_]+),\s*(?://\s*)?HTTP\s+(?P<http>\d{3})\.\s*"
    r"ERROR_REASON_(?P<reason>[A-Z_]+) = \d+;",
    re.S,
)


def _documented(project_root: Path) -> dict[str, tuple[str, int]]:
    text = (project_root / "protos/errand/common/v1/common.proto").read_text()
    return {row["reason"]: (row["grpc"], int(row["http"])) for row in _ROW.finditer(text)}


def test_reasons_are_those_of_the_proto() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in common_pb2.ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert names == set(Reason.__members__) == {reason.value for reason in ERROR_TABLE}


def test_table_agrees_with_the_proto_s_comments(project_root: Path) -> None:
    table = {reason.value: (status.grpc, status.http) for reason, status in ERROR_TABLE.items()}
    assert _documented(project_root) == table


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_one_class_and_a_grpc_code(reason: Reason) -> None:
    error = from_reason(reason, "what happened", {"retry_after_seconds": "2.5", "dependency": "rag"})
    assert error.reason is reason
    assert str(error) == error.message == "what happened"
    assert grpc.StatusCode[error.status.grpc]


def test_metadata_survives_and_empty_values_are_left_out() -> None:
    error = errors.InvalidArgument("message: too long", field="message")
    assert error.metadata == {"field": "message"}
    throttled = from_reason(Reason.OVERLOADED, "full", {"retry_after_seconds": "2.5"})
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after_seconds == 2.5
    assert isinstance(throttled, ErrandError)
