"""Errors on the wire: gRPC status plus google.rpc.ErrorInfo, there and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from errand_common.errors import (
    Cancelled,
    DeadlineExceeded,
    ErrandError,
    Internal,
    Overloaded,
    PermissionDenied,
    Reason,
    Unauthenticated,
    Unavailable,
    Unsupported,
    from_reason,
)
from errand_common.rpc.context import ERROR_DOMAIN

DETAILS_KEY = "grpc-status-details-bin"


def status_code(error: ErrandError) -> grpc.StatusCode:
    """The error's gRPC status code."""
    return grpc.StatusCode[error.status.grpc]


def trailing_metadata(error: ErrandError) -> tuple[tuple[str, bytes], ...]:
    """The error's reason and metadata as the standard status details."""
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=error.metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=status_code(error).value[0], message=error.message, details=[packed])
    return ((DETAILS_KEY, status.SerializeToString()),)


@contextmanager
def translate_errors(dependency: str) -> Iterator[None]:
    """Turns a failed call to `dependency` into the error that the other side raised."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, dependency) from error


def from_rpc_error(error: grpc.aio.AioRpcError, dependency: str) -> ErrandError:
    """The error a failed call stands for: by its ErrorInfo, else by its status code."""
    info = _error_info(error.trailing_metadata() or ())
    if info is not None:
        return from_reason(Reason(info.reason), error.details() or "", dict(info.metadata))
    return _from_status(error.code(), dependency)


def _error_info(metadata: Iterable[Any]) -> error_details_pb2.ErrorInfo | None:
    for key, value in metadata:
        if key != DETAILS_KEY:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN and info.reason in Reason.__members__:
                return info
    return None


def _from_status(code: grpc.StatusCode, dependency: str) -> ErrandError:
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(dependency)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"The {dependency} service did not answer in time.")
        case grpc.StatusCode.CANCELLED:
            return Cancelled("The call was cancelled.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return Unsupported(f"The {dependency} service does not offer this.", feature=dependency)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"The {dependency} service is overloaded.", retry_after_seconds=1.0)
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated()
        case grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDenied("This is not allowed.")
        case _:
            return Internal(f"The {dependency} service failed.")
