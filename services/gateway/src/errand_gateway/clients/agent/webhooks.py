"""Webhooks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import webhooks_pb2 as pb
from errand.agent.v1.webhooks_pb2_grpc import WebhookServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain import webhooks as w
from errand_gateway.domain.resources import Page, PageQuery

if TYPE_CHECKING:
    from errand.agent.v1.webhooks_pb2_grpc import WebhookServiceAsyncStub


class GrpcWebhookBackend:
    """WebhookBackend on a channel; `call_seconds` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: WebhookServiceAsyncStub = WebhookServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def put_webhook(self, webhook: w.Webhook) -> w.PutWebhook:
        """Makes or replaces a webhook."""
        events = [f"WEBHOOK_EVENT_{event.name}" for event in webhook.events]
        wanted = pb.Webhook(name=webhook.name, url=webhook.url, events=events, paused=webhook.paused)
        with translate_errors(DEPENDENCY):
            response = await self._stub.PutWebhook(pb.PutWebhookRequest(webhook=wanted), timeout=self._timeout)
        return w.PutWebhook(_webhook(response.webhook), response.secret)

    async def list_webhooks(self) -> Sequence[w.Webhook]:
        """The webhooks by name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListWebhooks(pb.ListWebhooksRequest(), timeout=self._timeout)
        return [_webhook(item) for item in response.webhooks]

    async def delete_webhook(self, name: str) -> None:
        """Removes a webhook with what it was sent."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteWebhook(pb.DeleteWebhookRequest(name=name), timeout=self._timeout)

    async def list_deliveries(self, name: str, page: PageQuery) -> Page[w.Delivery]:
        """What a webhook was sent, newest first."""
        request = pb.ListDeliveriesRequest(name=name, page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListDeliveries(request, timeout=self._timeout)
        return Page([_delivery(item) for item in response.deliveries], response.next_page_token)


def _event(number: int) -> w.WebhookEvent:
    return convert.enum_or(w.WebhookEvent, pb.WebhookEvent, number, "WEBHOOK_EVENT_", w.WebhookEvent.RUN_ENDED)


def _webhook(message: pb.Webhook) -> w.Webhook:
    return w.Webhook(message.name, message.url, [_event(event) for event in message.events], message.paused)


def _delivery(message: pb.Delivery) -> w.Delivery:
    return w.Delivery(
        id=message.id,
        event=_event(message.event),
        run_id=message.run_id,
        state=convert.enum_or(
            w.DeliveryState, pb.DeliveryState, message.state, "DELIVERY_STATE_", w.DeliveryState.PENDING
        ),
        attempts=message.attempts,
        last_error=message.last_error,
        created_at=convert.moment(message, "created_at"),
    )
