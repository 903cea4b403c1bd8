"""Retention, exports and erasures."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import privacy_pb2 as pb
from errand.agent.v1.privacy_pb2_grpc import PrivacyServiceStub
from errand_common.rpc.client import deadline_seconds, streaming, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain.privacy import Retention

if TYPE_CHECKING:
    from errand.agent.v1.privacy_pb2_grpc import PrivacyServiceAsyncStub


class GrpcPrivacyBackend:
    """PrivacyBackend on a channel.

    `export_seconds` bounds an export, `erase_seconds` an erasure (it waits for runs to end), `call_seconds`
    everything else.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        export_seconds: float = 3600.0,
        erase_seconds: float = 120.0,
        call_seconds: float = 10.0,
    ) -> None:
        self._stub: PrivacyServiceAsyncStub = PrivacyServiceStub(channel)
        self._export_seconds, self._erase_seconds, self._call_seconds = export_seconds, erase_seconds, call_seconds

    async def retention(self) -> Retention:
        """What is in force."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetRetention(
                pb.GetRetentionRequest(), timeout=deadline_seconds(self._call_seconds)
            )
        return _retention(response.retention)

    async def set_retention(self, retention: Retention) -> Retention:
        """Replaces what is in force."""
        wanted = pb.Retention(
            conversation_days=retention.conversation_days,
            workflow_run_days=retention.workflow_run_days,
            fact_days=retention.fact_days,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.SetRetention(
                pb.SetRetentionRequest(retention=wanted), timeout=deadline_seconds(self._call_seconds)
            )
        return _retention(response.retention)

    async def export_person(self, principal_id: str) -> AsyncIterator[str]:
        """A JSON object on a line for each row."""
        call = self._stub.ExportPerson(
            pb.ExportPersonRequest(principal_id=principal_id), timeout=deadline_seconds(self._export_seconds)
        )
        with streaming(call, DEPENDENCY) as answers:
            async for response in answers:
                yield response.line

    async def erase_person(self, principal_id: str) -> Mapping[str, int]:
        """Rows that were deleted, by table."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ErasePerson(
                pb.ErasePersonRequest(principal_id=principal_id), timeout=deadline_seconds(self._erase_seconds)
            )
        return dict(response.erased)

    async def erase_tenant(self, tenant_id: str) -> Mapping[str, int]:
        """Rows that were deleted, by table."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.EraseTenant(
                pb.EraseTenantRequest(tenant_id=tenant_id), timeout=deadline_seconds(self._erase_seconds)
            )
        return dict(response.erased)

    async def export_conversation(self, conversation_id: str) -> AsyncIterator[str]:
        """A JSON object on a line for each row."""
        call = self._stub.ExportConversation(
            pb.ExportConversationRequest(id=conversation_id), timeout=deadline_seconds(self._export_seconds)
        )
        with streaming(call, DEPENDENCY) as answers:
            async for response in answers:
                yield response.line


def _retention(message: pb.Retention) -> Retention:
    return Retention(
        message.conversation_days,
        message.workflow_run_days,
        message.fact_days,
        convert.moment(message, "swept_at"),
    )
