"""Errors on the wire: gRPC status plus google.rpc.ErrorInfo, there and back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from errand_common.errors import (
    DeadlineExceeded,
    ErrandError,
    Internal,
    Overloaded,
    PermissionDenied,
    Reason,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    from_reason,
)
from errand_common.rpc.context import ERROR_DOMAIN

T = TypeVar("T")

DETAILS_KEY = "grpc-status-details-bin"
# Metadata that is larger than a few KiB is refused by the other side, and the error with it.
_LONGEST_MESSAGE_BYTES = 1_000
_LONGEST_VALUE_BYTES = 300
# gRPC answers RESOURCE_EXHAUSTED to both a full server and a message too large; only the text differs.
_TOO_LARGE = re.compile(r"message larger than max \(\d+ vs\. (\d+)\)")
# What grpc.aio says in place of the other side's answer when a call ends while a message is being written to it.
_ANSWER_LOST = "Internal error from Core"


def status_code(error: ErrandError) -> grpc.StatusCode:
    """The error's gRPC status code."""
    return grpc.StatusCode[error.status.grpc]


def bounded(text: str, limit_bytes: int = _LONGEST_MESSAGE_BYTES) -> str:
    """The text, cut so that it fits into trailing metadata."""
    encoded = text.encode()
    return text if len(encoded) <= limit_bytes else encoded[:limit_bytes].decode(errors="ignore") + "…"


def trailing_metadata(error: ErrandError) -> tuple[tuple[str, str | bytes], ...]:
    """The error's reason and metadata as the standard status details, and a word against silent retries.

    A handler that failed may have had effects: only its caller knows whether to ask again. Channels then
    retry by themselves only what never reached a handler (gRFC A6, server pushback).
    """
    metadata = {key: bounded(value, _LONGEST_VALUE_BYTES) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=status_code(error).value[0], message=bounded(error.message), details=[packed])
    return ((DETAILS_KEY, status.SerializeToString()), ("grpc-retry-pushback-ms", "-1"))


@contextmanager
def translate_errors(dependency: str) -> Iterator[None]:
    """Turns a failed call to `dependency` into the error that the other side raised."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, dependency) from error


@contextmanager
def streaming(call: grpc.aio.UnaryStreamCall[Any, T], dependency: str) -> Iterator[AsyncIterable[T]]:
    """What a streaming call to `dependency` answers, with translate_errors; the call ends with the block."""
    try:
        with translate_errors(dependency):
            yield call
    finally:
        call.cancel()


def from_rpc_error(error: grpc.aio.AioRpcError, dependency: str) -> ErrandError:
    """The error a failed call stands for: by its ErrorInfo, else by its status code."""
    info = _error_info(error.trailing_metadata() or ())
    if info is not None:
        return from_reason(Reason(info.reason), error.details() or "", dict(info.metadata))
    return _from_status(error, dependency)


def _error_info(metadata: Iterable[Any]) -> error_details_pb2.ErrorInfo | None:
    for key, value in metadata:
        if key != DETAILS_KEY:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN and info.reason in Reason.__members__:
                return info
    return None


_BY_STATUS: Mapping[grpc.StatusCode, Callable[[str], ErrandError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: lambda name: DeadlineExceeded(f"The {name} service did not answer in time."),
    # Who cancels a call here gets no answer to it, and a handler tells its reason: this is a server that ended.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: lambda name: Unsupported(f"The {name} service does not offer this.", feature=name),
    grpc.StatusCode.RESOURCE_EXHAUSTED: lambda name: Overloaded(
        f"The {name} service is overloaded.", retry_after_seconds=1.0
    ),
    grpc.StatusCode.UNAUTHENTICATED: lambda _: Unauthenticated(),
    grpc.StatusCode.PERMISSION_DENIED: lambda _: PermissionDenied("This is not allowed."),
}


def _from_status(error: grpc.aio.AioRpcError, dependency: str) -> ErrandError:
    if too_large := _TOO_LARGE.search(error.details() or ""):
        return TooLarge(
            f"A message to or from the {dependency} service is larger than {too_large[1]} bytes.",
            field="message",
            limit=too_large[1],
        )
    if error.details() == _ANSWER_LOST:
        return Unavailable(dependency)
    make = _BY_STATUS.get(error.code())
    return make(dependency) if make else Internal(f"The {dependency} service failed.")
