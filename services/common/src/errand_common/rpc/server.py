"""A gRPC server with everything a service needs around its own methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from errand_common.rpc.context import MAX_MESSAGE_BYTES
from errand_common.rpc.interceptors import ServiceInterceptor
from errand_common.rpc.tls import TlsFiles
from errand_common.settings import ServiceSettings
from errand_common.telemetry import metrics
from errand_common.tokens import TokenVerifier

# Calls beyond this are answered RESOURCE_EXHAUSTED at once instead of filling the memory.
MAX_RUNNING_CALLS = 1_000


@dataclass(frozen=True, slots=True)
class Registration:
    """One gRPC service: how it is added to a server, what serves it, its full name."""

    add: Callable[[Any, Any], None]
    servicer: object
    service_name: str


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Clients balance over the addresses they know; an ended connection makes them look again.
        ("grpc.max_connection_age_ms", 30_000),
        ("grpc.max_connection_age_grace_ms", 300_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two processes on one port would share its calls at random.
        ("grpc.so_reuseport", 0),
    ]


class RpcServer:
    """Serves the registered services with health and reflection."""

    def __init__(
        self,
        settings: ServiceSettings,
        verifier: TokenVerifier,
        registrations: Sequence[Registration],
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._settings, self._verifier = settings, verifier
        self._names = ["", *(registration.service_name for registration in registrations)]
        self._server = grpc.aio.server(
            interceptors=[ServiceInterceptor(verifier)],
            options=_options(max_message_bytes),
            maximum_concurrent_rpcs=MAX_RUNNING_CALLS,
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for registration in registrations:
            registration.add(registration.servicer, self._server)
        reflected = (*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, self._server)

    async def start(self) -> int:
        """Listens and returns the port; health says NOT_SERVING until `set_serving(True)`.

        Raises RuntimeError when the port is taken.
        """
        await self.set_serving(False)
        address = f"{self._settings.host}:{self._settings.port}"
        if self._settings.tls_dir:
            credentials = TlsFiles(self._settings.tls_dir).server_credentials()
            port = self._server.add_secure_port(address, credentials)
        else:
            port = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def set_serving(self, serving: bool) -> None:
        """What health answers from now on; a server that cannot verify a token yet waits until it can.

        It would be sent calls that it must refuse, while others could answer them.
        """
        if serving:
            await self._verifier.wait_for_keys()
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)
        metrics.set_serving(serving)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, gives running ones `grace_seconds`, then ends them."""
        await self.set_serving(False)
        await self._server.stop(grace_seconds)
