"""PrivacyService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from errand.agent.v1 import privacy_pb2 as pb
from errand.agent.v1 import privacy_pb2_grpc

from errand_agent.domain.retention import Retention
from errand_agent.transport.convert import timestamp
from errand_agent.use_cases.privacy import PrivacyUseCases


class PrivacyServicer(privacy_pb2_grpc.PrivacyServiceServicer):
    """Serves retention, exports and erasures."""

    def __init__(self, privacy: PrivacyUseCases) -> None:
        self._privacy = privacy

    async def GetRetention(self, request: pb.GetRetentionRequest, context: Any) -> pb.GetRetentionResponse:
        """What is in force."""
        return pb.GetRetentionResponse(retention=_message(await self._privacy.retention()))

    async def SetRetention(self, request: pb.SetRetentionRequest, context: Any) -> pb.SetRetentionResponse:
        """Replaces what is in force."""
        given = request.retention
        wanted = Retention(given.conversation_days, given.workflow_run_days, given.fact_days)
        return pb.SetRetentionResponse(retention=_message(await self._privacy.set_retention(wanted)))

    async def ExportPerson(
        self, request: pb.ExportPersonRequest, context: Any
    ) -> AsyncGenerator[pb.ExportPersonResponse, None]:
        """A row a line."""
        async with aclosing(self._privacy.export_person(request.principal_id)) as lines:
            async for line in lines:
                yield pb.ExportPersonResponse(line=line)

    async def ErasePerson(self, request: pb.ErasePersonRequest, context: Any) -> pb.ErasePersonResponse:
        """All that is stored of a person."""
        return pb.ErasePersonResponse(erased=await self._privacy.erase_person(request.principal_id))

    async def EraseTenant(self, request: pb.EraseTenantRequest, context: Any) -> pb.EraseTenantResponse:
        """All that is stored of the caller's tenant."""
        return pb.EraseTenantResponse(erased=await self._privacy.erase_tenant(request.tenant_id))

    async def ExportConversation(
        self, request: pb.ExportConversationRequest, context: Any
    ) -> AsyncGenerator[pb.ExportConversationResponse, None]:
        """A row a line."""
        async with aclosing(self._privacy.export_conversation(request.id)) as lines:
            async for line in lines:
                yield pb.ExportConversationResponse(line=line)


def _message(retention: Retention) -> pb.Retention:
    return pb.Retention(
        conversation_days=retention.conversation_days,
        workflow_run_days=retention.workflow_run_days,
        fact_days=retention.fact_days,
        swept_at=timestamp(retention.swept_at) if retention.swept_at else None,
    )
