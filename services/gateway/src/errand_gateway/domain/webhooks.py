"""Addresses that are told what happens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from errand_gateway.domain.resources import Page, PageQuery


class WebhookEvent(StrEnum):
    """What is told."""

    APPROVAL_REQUESTED = "approval_requested"
    RUN_ENDED = "run_ended"


class DeliveryState(StrEnum):
    """How a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address and what it is told."""

    name: str
    url: str
    events: Sequence[WebhookEvent]
    paused: bool = False


@dataclass(frozen=True, slots=True)
class PutWebhook:
    """A webhook as it is stored, and what verifies what it is sent; shown this once."""

    webhook: Webhook
    secret: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook; its id is the same in all attempts."""

    id: str
    event: WebhookEvent
    run_id: str
    state: DeliveryState
    attempts: int
    last_error: str
    created_at: datetime | None


class WebhookBackend(Protocol):
    """Webhooks of the agent service."""

    async def put_webhook(self, webhook: Webhook) -> PutWebhook:
        """Makes or replaces a webhook."""
        ...

    async def list_webhooks(self) -> Sequence[Webhook]:
        """The webhooks by name."""
        ...

    async def delete_webhook(self, name: str) -> None:
        """Removes a webhook with what it was sent."""
        ...

    async def list_deliveries(self, name: str, page: PageQuery) -> Page[Delivery]:
        """What a webhook was sent, newest first."""
        ...
