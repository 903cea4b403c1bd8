# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's training data: two examples for every tenant."""

import json
from collections.abc import AsyncIterator
from typing import Any

from errand.agent.v1 import examples_pb2 as pb
from errand.agent.v1 import examples_pb2_grpc
from errand_common.errors import InvalidArgument, NotFound

from errand_gateway.testing.store import TenantStore


class FakeExamples(examples_pb2_grpc.ExampleServiceServicer):
    """Keeps consents; remembers what was asked for last."""

    def __init__(self) -> None:
        self._consents: TenantStore[bool] = TenantStore("consent")
        self.asked = pb.ExportExamplesRequest()

    async def SetConsent(self, request: pb.SetConsentRequest, context: Any) -> pb.SetConsentResponse:
        """Of the tenant: keys stand for people here."""
        self._consents.put("consent", request.training)
        return pb.SetConsentResponse()

    async def GetConsent(self, request: pb.GetConsentRequest, context: Any) -> pb.GetConsentResponse:
        """False when never given."""
        try:
            return pb.GetConsentResponse(training=self._consents.get("consent"))
        except NotFound:
            return pb.GetConsentResponse()

    async def ExportExamples(
        self, request: pb.ExportExamplesRequest, context: Any
    ) -> AsyncIterator[pb.ExportExamplesResponse]:
        """A line each."""
        self.asked.CopyFrom(request)
        bounded = request.HasField("since") and request.HasField("until")
        if bounded and request.since.ToNanoseconds() >= request.until.ToNanoseconds():
            raise InvalidArgument("until: name a moment after since.", field="until")
        for number in range(min(2, request.limit)):
            line = {"messages": [{"role": "user", "content": "6 times 7?"}], "run_id": f"run_{number}"}
            yield pb.ExportExamplesResponse(line=json.dumps(line))
