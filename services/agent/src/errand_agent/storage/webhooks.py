"""Every query on webhooks and what they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from errand_common.db import decode_page_token, encode_page_token, new_id, utc_now
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.webhooks import Delivery, DeliveryState, Webhook, WebhookEvent
from errand_agent.storage.models import DeliveryRow, WebhookRow
from errand_agent.storage.timers import Timer, TimerRepository

KIND = "webhook"


def to_webhook(row: WebhookRow) -> Webhook:
    """The domain's webhook."""
    return Webhook(row.name, row.url, tuple(WebhookEvent(event) for event in row.events), row.paused, row.key)


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        row.id,
        WebhookEvent(row.event),
        row.run_id,
        DeliveryState(row.state),
        row.attempts,
        row.last_error,
        row.created_at,
    )


class WebhookRepository:
    """Webhooks of one transaction's tenant."""

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session, self._tenant_id = session, tenant_id

    async def row(self, name: str) -> WebhookRow | None:
        """The webhook's row."""
        return await self._session.get(WebhookRow, (self._tenant_id, name))

    async def put(self, webhook: Webhook) -> None:
        """Stores it in place of an earlier one."""
        events = [event.value for event in webhook.events]
        await self._session.merge(
            WebhookRow(
                tenant_id=self._tenant_id,
                name=webhook.name,
                url=webhook.url,
                events=events,
                paused=webhook.paused,
                key=webhook.key,
            )
        )

    async def all(self) -> list[Webhook]:
        """By name."""
        query = sa.select(WebhookRow).where(WebhookRow.tenant_id == self._tenant_id).order_by(WebhookRow.name)
        return [to_webhook(row) for row in await self._session.scalars(query)]

    async def delete(self, name: str) -> None:
        """Removes it with what it was sent."""
        for table in (DeliveryRow, WebhookRow):
            column = DeliveryRow.webhook if table is DeliveryRow else WebhookRow.name
            await self._session.execute(sa.delete(table).where(table.tenant_id == self._tenant_id, column == name))

    async def tell(self, event: WebhookEvent, run_id: str, data: Mapping[str, Any]) -> None:
        """Has this sent to all that want it, once the transaction is committed."""
        now = utc_now()
        for webhook in await self.all():
            if webhook.paused or event not in webhook.events:
                continue
            row = DeliveryRow(
                id=new_id("evt"),
                tenant_id=self._tenant_id,
                webhook=webhook.name,
                run_id=run_id,
                event=event.value,
                data=dict(data),
                state=DeliveryState.PENDING.value,
                attempts=0,
                last_error="",
                created_at=now,
            )
            self._session.add(row)
            await TimerRepository(self._session).put(Timer(KIND, self._tenant_id, row.id, now))

    async def delivery(self, delivery_id: str) -> tuple[DeliveryRow, Webhook] | None:
        """A delivery that waits, and its webhook."""
        row = await self._session.get(DeliveryRow, delivery_id)
        if row is None or row.state != DeliveryState.PENDING.value:
            return None
        webhook = await self.row(row.webhook)
        return None if webhook is None else (row, to_webhook(webhook))

    async def page(self, name: str, size: int, token: str) -> tuple[list[Delivery], str]:
        """What a webhook was sent, newest first, and the next page's token."""
        query = sa.select(DeliveryRow).where(DeliveryRow.tenant_id == self._tenant_id, DeliveryRow.webhook == name)
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(DeliveryRow.id < str(before[0]))
        rows = list(await self._session.scalars(query.order_by(DeliveryRow.id.desc()).limit(size + 1)))
        more = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return [_delivery(row) for row in rows[:size]], more
