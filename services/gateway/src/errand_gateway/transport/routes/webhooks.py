"""Addresses that are told what happens."""

from collections.abc import Sequence
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.webhooks import Delivery, PutWebhook, Webhook, WebhookEvent
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, PageDep
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/webhooks", tags=["webhooks"])

Admin = Annotated[Principal, Depends(Requires(Permission.WEBHOOKS_WRITE))]
WebhookName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["approvals"])]


class WebhookDefinition(Body):
    """Where what is told."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://hooks.example.com/errand", "events": ["approval_requested"]}]}
    )

    url: Annotated[
        str,
        Field(
            min_length=8,
            max_length=2048,
            pattern=r"^https?://[!-~]+$",
            description="Its host has to be among those that the operator lists (`ERRAND_AGENT_WEBHOOK_HOSTS`).",
        ),
    ]
    events: list[WebhookEvent] = Field(min_length=1, max_length=8)
    paused: bool = False


class WebhookList(BaseModel):
    """All there are; a tenant has at most 20."""

    items: Sequence[Webhook]


@router.get("", summary="List webhooks")
async def list_webhooks(services: ServicesDep, _caller: Admin) -> WebhookList:
    """The tenant's webhooks by name, without their secrets."""
    return WebhookList(items=await services.webhooks.list_webhooks())


@router.put("/{webhook}", summary="Make a webhook", responses={**BODY_RESPONSES, **CONFLICT})
async def put_webhook(
    webhook: WebhookName, body: WebhookDefinition, services: ServicesDep, _caller: Admin
) -> PutWebhook:
    """Makes or replaces it, with a new secret that is shown this once.

    Requests are signed as the Standard Webhooks say: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    """
    events = list(dict.fromkeys(body.events))
    return await services.webhooks.put_webhook(Webhook(webhook, body.url, events, body.paused))


@router.delete("/{webhook}", status_code=204, summary="Remove a webhook", responses=NOT_FOUND)
async def delete_webhook(webhook: WebhookName, services: ServicesDep, _caller: Admin) -> None:
    """Removes it; what was not delivered yet is not any more."""
    await services.webhooks.delete_webhook(webhook)


@router.get("/{webhook}/deliveries", summary="List deliveries of a webhook", responses=NOT_FOUND)
async def list_deliveries(webhook: WebhookName, page: PageDep, services: ServicesDep, _caller: Admin) -> Page[Delivery]:
    """What it was sent or waits for that, newest first."""
    return await services.webhooks.list_deliveries(webhook, page)
