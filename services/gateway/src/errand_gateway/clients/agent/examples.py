"""Consents, and runs as training data."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import examples_pb2 as pb
from errand.agent.v1.examples_pb2_grpc import ExampleServiceStub
from errand_common.rpc.client import deadline_seconds, streaming, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain.examples import ExampleFilter

if TYPE_CHECKING:
    from errand.agent.v1.examples_pb2_grpc import ExampleServiceAsyncStub


class GrpcExampleBackend:
    """ExampleBackend on a channel; `export_seconds` bounds an export, `call_seconds` everything else."""

    def __init__(
        self, channel: grpc.aio.Channel, *, export_seconds: float = 3600.0, call_seconds: float = 10.0
    ) -> None:
        self._stub: ExampleServiceAsyncStub = ExampleServiceStub(channel)
        self._export_seconds = export_seconds
        self._call_seconds = call_seconds

    async def set_consent(self, *, training: bool) -> None:
        """Stores whether models may learn from the caller's runs."""
        with translate_errors(DEPENDENCY):
            await self._stub.SetConsent(
                pb.SetConsentRequest(training=training), timeout=deadline_seconds(self._call_seconds)
            )

    async def consent(self) -> bool:
        """Whether models may learn from the caller's runs."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetConsent(pb.GetConsentRequest(), timeout=deadline_seconds(self._call_seconds))
        return response.training

    async def export(self, wanted: ExampleFilter) -> AsyncIterator[str]:
        """A JSON object on a line for each run."""
        request = pb.ExportExamplesRequest(
            agent=wanted.agent,
            since=convert.timestamp(wanted.since),
            until=convert.timestamp(wanted.until),
            approved_only=wanted.approved_only,
            with_calls_only=wanted.with_calls_only,
            limit=wanted.limit,
        )
        call = self._stub.ExportExamples(request, timeout=deadline_seconds(self._export_seconds))
        with streaming(call, DEPENDENCY) as answers:
            async for response in answers:
                yield response.line
