"""Channels to other services: balanced, retried, carrying token, request id, deadline and trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry import trace

from errand_common import principal as principals
from errand_common.errors import Unauthenticated
from errand_common.principal import Principal, current_principal
from errand_common.rpc.context import (
    AUTHORIZATION,
    MAX_MESSAGE_BYTES,
    REQUEST_ID,
    carrying_token,
    current_token,
    deadline_seconds,
    ending_within,
)
from errand_common.rpc.spans import traced_call
from errand_common.rpc.status import streaming, translate_errors
from errand_common.rpc.tls import own_files
from errand_common.telemetry.tracing import carried_trace
from errand_common.tokens import TokenSigner

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A pod that ends fails all calls on its connection at once: they may all be asked again elsewhere. Retries
        # stop when half of this is used up, and are allowed again as others succeed.
        "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.5},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    # A server that ends cancels the calls that it has not taken up yet.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)
_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A service that was away is found again within this time.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Pods come and go: the default of 30 seconds would hold on to the address of one that is gone.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]


def create_channel(target: str, outer: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """A channel to `target` ("127.0.0.1:50052" or "dns:///errand-inference:50052"), with TLS where it is configured.

    `outer` interceptors see a call before those of every channel do.
    """
    interceptors: list[Any] = [*outer, _UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]
    if files := own_files():
        return grpc.aio.secure_channel(target, files.channel_credentials(), options=_OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)


@contextmanager
def acting_as(principal: Principal, *, signer: TokenSigner, ttl_seconds: float = 300) -> Iterator[None]:
    """Work inside the block is done for this principal, with a token of its own."""
    with (
        principals.acting_as(principal),
        carrying_token(signer.sign(principal, ttl_seconds=ttl_seconds)),
    ):
        yield


async def _call(continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any) -> Any:
    async def begin(span: trace.Span) -> Any:
        return await continuation(_carried(details, span), request)

    return await traced_call(begin, details.method)


def _carried(details: grpc.aio.ClientCallDetails, span: trace.Span) -> grpc.aio.ClientCallDetails:
    carrier = carried_trace(trace.set_span_in_context(span))
    metadata = grpc.aio.Metadata(*(details.metadata or ()), *carrier.items())
    token = current_token()
    if token and metadata.get(AUTHORIZATION) is None:
        metadata.add(AUTHORIZATION, f"Bearer {token}")
    if request_id := _request_id():
        metadata.add(REQUEST_ID, request_id)
    timeout = deadline_seconds(details.timeout if details.timeout is not None else 300.0)
    return grpc.aio.ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


def _request_id() -> str:
    try:
        return current_principal().request_id
    except Unauthenticated:
        return ""


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await _call(continuation, details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await _call(continuation, details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, requests: Any
    ) -> Any:
        return await _call(continuation, details, requests)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, requests: Any
    ) -> Any:
        return await _call(continuation, details, requests)


__all__ = ["acting_as", "create_channel", "deadline_seconds", "ending_within", "streaming", "translate_errors"]
