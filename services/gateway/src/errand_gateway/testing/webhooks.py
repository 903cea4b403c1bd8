# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's webhooks: each was sent one event."""

from typing import Any

from errand.agent.v1 import webhooks_pb2 as pb
from errand.agent.v1 import webhooks_pb2_grpc
from errand_common.db import utc_now
from errand_common.errors import InvalidArgument

from errand_gateway.testing.store import TenantStore


class FakeWebhooks(webhooks_pb2_grpc.WebhookServiceServicer):
    """Keeps webhooks in memory; example.com's hosts alone are listed."""

    def __init__(self) -> None:
        self._webhooks: TenantStore[pb.Webhook] = TenantStore("webhook")

    async def PutWebhook(self, request: pb.PutWebhookRequest, context: Any) -> pb.PutWebhookResponse:
        """Makes or replaces one."""
        row = pb.Webhook()
        row.CopyFrom(request.webhook)
        if "example.com" not in row.url:
            raise InvalidArgument("webhook.url: this host is not listed", field="webhook.url")
        return pb.PutWebhookResponse(webhook=self._webhooks.put(row.name, row), secret="whsec_c2VjcmV0")  # noqa: S106 - of nobody

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Any) -> pb.ListWebhooksResponse:
        """By name."""
        by_name = {row.name: row for row in self._webhooks.all()}
        return pb.ListWebhooksResponse(webhooks=[by_name[name] for name in sorted(by_name)])

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, context: Any) -> pb.DeleteWebhookResponse:
        """Removes one."""
        self._webhooks.pop(request.name)
        return pb.DeleteWebhookResponse()

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Any) -> pb.ListDeliveriesResponse:
        """One that waits."""
        row = self._webhooks.get(request.name)
        delivery = pb.Delivery(
            id="evt_1",
            event=row.events[0],
            run_id="run_1",
            state=pb.DELIVERY_STATE_PENDING,
            attempts=2,
            last_error="it answered with status 500",
        )
        delivery.created_at.FromDatetime(utc_now())
        return pb.ListDeliveriesResponse(deliveries=[delivery])
