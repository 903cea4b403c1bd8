"""WebhookService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from typing import Any

from errand.agent.v1 import webhooks_pb2 as pb
from errand.agent.v1 import webhooks_pb2_grpc

from errand_agent.domain.webhooks import Delivery, Webhook, WebhookEvent
from errand_agent.transport.convert import timestamp
from errand_agent.use_cases.webhooks import WebhookUseCases

_EVENT = "WEBHOOK_EVENT_"


class WebhookServicer(webhooks_pb2_grpc.WebhookServiceServicer):
    """Serves webhooks."""

    def __init__(self, webhooks: WebhookUseCases) -> None:
        self._webhooks = webhooks

    async def PutWebhook(self, request: pb.PutWebhookRequest, context: Any) -> pb.PutWebhookResponse:
        """Makes or replaces one."""
        given = request.webhook
        events = tuple(WebhookEvent(pb.WebhookEvent.Name(event).removeprefix(_EVENT)) for event in given.events)
        stored, secret = await self._webhooks.put(Webhook(given.name, given.url, events, given.paused))
        return pb.PutWebhookResponse(webhook=_message(stored), secret=secret)

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Any) -> pb.ListWebhooksResponse:
        """By name."""
        return pb.ListWebhooksResponse(webhooks=[_message(webhook) for webhook in await self._webhooks.all()])

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, context: Any) -> pb.DeleteWebhookResponse:
        """Removes one."""
        await self._webhooks.delete(request.name)
        return pb.DeleteWebhookResponse()

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Any) -> pb.ListDeliveriesResponse:
        """Newest first."""
        found, more = await self._webhooks.deliveries(request.name, request.page.page_size, request.page.page_token)
        return pb.ListDeliveriesResponse(deliveries=[_delivery(row) for row in found], next_page_token=more)


def _message(webhook: Webhook) -> pb.Webhook:
    events = [f"{_EVENT}{event.value}" for event in webhook.events]
    return pb.Webhook(name=webhook.name, url=webhook.url, events=events, paused=webhook.paused)


def _delivery(delivery: Delivery) -> pb.Delivery:
    return pb.Delivery(
        id=delivery.id,
        event=f"{_EVENT}{delivery.event.value}",
        run_id=delivery.run_id,
        state=f"DELIVERY_STATE_{delivery.state.value}",
        attempts=delivery.attempts,
        last_error=delivery.last_error,
        created_at=timestamp(delivery.created_at),
    )
