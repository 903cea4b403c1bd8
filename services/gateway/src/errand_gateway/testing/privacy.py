# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's privacy: it remembers what was asked for."""

import json
from collections.abc import AsyncIterator
from typing import Any

from errand.agent.v1 import privacy_pb2 as pb
from errand.agent.v1 import privacy_pb2_grpc
from errand_common.errors import ErrandError, NotFound
from errand_common.principal import current_principal

from errand_gateway.testing.agent import FakeAgent
from errand_gateway.testing.store import TenantStore


class FakePrivacy(privacy_pb2_grpc.PrivacyServiceServicer):
    """Exports one row; conversations are the fake agent's. `erase_fails_with` is raised by erasures of tenants."""

    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self._retentions: TenantStore[pb.Retention] = TenantStore("retention")
        self.erase_fails_with: ErrandError | None = None

    async def GetRetention(self, request: pb.GetRetentionRequest, context: Any) -> pb.GetRetentionResponse:
        """For ever, unless it was set."""
        try:
            return pb.GetRetentionResponse(retention=self._retentions.get("retention"))
        except NotFound:
            return pb.GetRetentionResponse(retention=pb.Retention())

    async def SetRetention(self, request: pb.SetRetentionRequest, context: Any) -> pb.SetRetentionResponse:
        """Keeps it."""
        return pb.SetRetentionResponse(retention=self._retentions.put("retention", request.retention))

    async def ExportPerson(
        self, request: pb.ExportPersonRequest, context: Any
    ) -> AsyncIterator[pb.ExportPersonResponse]:
        """Who was asked for."""
        person = request.principal_id or current_principal().id
        yield pb.ExportPersonResponse(line=json.dumps({"table": "consents", "row": {"principal_id": person}}))

    async def ErasePerson(self, request: pb.ErasePersonRequest, context: Any) -> pb.ErasePersonResponse:
        """One consent."""
        return pb.ErasePersonResponse(erased={"consents": 1})

    async def EraseTenant(self, request: pb.EraseTenantRequest, context: Any) -> pb.EraseTenantResponse:
        """The retention and the fake agent's runs."""
        if self.erase_fails_with is not None:
            raise self.erase_fails_with
        erased = {"retentions": self._retentions.clear(), **self._agent.erase()}
        return pb.EraseTenantResponse(erased={table: rows for table, rows in erased.items() if rows})

    async def ExportConversation(
        self, request: pb.ExportConversationRequest, context: Any
    ) -> AsyncIterator[pb.ExportConversationResponse]:
        """Its messages."""
        for message in self._agent.messages_of(request.id):
            row = {"id": message.id, "text": message.text}
            yield pb.ExportConversationResponse(line=json.dumps({"table": "messages", "row": row}))
