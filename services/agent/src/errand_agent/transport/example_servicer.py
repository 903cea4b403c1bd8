"""ExampleService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC
from typing import Any

from errand.agent.v1 import examples_pb2 as pb
from errand.agent.v1 import examples_pb2_grpc

from errand_agent.storage.examples import ExampleFilter
from errand_agent.use_cases.examples import ExampleUseCases


class ExampleServicer(examples_pb2_grpc.ExampleServiceServicer):
    """Serves consents and examples."""

    def __init__(self, examples: ExampleUseCases) -> None:
        self._examples = examples

    async def SetConsent(self, request: pb.SetConsentRequest, context: Any) -> pb.SetConsentResponse:
        """Of the caller."""
        await self._examples.set_consent(training=request.training)
        return pb.SetConsentResponse()

    async def GetConsent(self, request: pb.GetConsentRequest, context: Any) -> pb.GetConsentResponse:
        """Of the caller."""
        return pb.GetConsentResponse(training=await self._examples.consent())

    async def ExportExamples(
        self, request: pb.ExportExamplesRequest, context: Any
    ) -> AsyncGenerator[pb.ExportExamplesResponse, None]:
        """A line each."""
        wanted = ExampleFilter(
            agent=request.agent,
            since=request.since.ToDatetime(UTC) if request.HasField("since") else None,
            until=request.until.ToDatetime(UTC) if request.HasField("until") else None,
        )
        lines = self._examples.export(
            wanted,
            approved_only=request.approved_only,
            with_calls_only=request.with_calls_only,
            limit=request.limit,
        )
        async with aclosing(lines) as told:
            async for line in told:
                yield pb.ExportExamplesResponse(line=line)
