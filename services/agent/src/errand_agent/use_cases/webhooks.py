"""Keeping webhooks, and sending what happens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog
from errand_common.db import Database, new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from errand_common.principal import current_principal
from errand_common.telemetry.metrics import counter

from errand_agent.domain.webhooks import (
    MOST_WEBHOOKS,
    RETRIES,
    Delivery,
    DeliveryState,
    Webhook,
    check_url,
    secret_of,
    shown,
    signed,
)
from errand_agent.storage.models import DeliveryRow
from errand_agent.storage.timers import Timer
from errand_agent.storage.webhooks import WebhookRepository
from errand_agent.use_cases.access import page_size, visible_owner

SENT = counter("agent_webhook_attempts_total", "Requests to webhooks, by what came of them", "result")
_log = structlog.get_logger(__name__)


class Sender(Protocol):
    """Sends a request to an address outside."""

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> str:
        """Empty when it was taken, else why not."""
        ...


class WebhookUseCases:
    """Webhooks of the caller's tenant."""

    def __init__(self, database: Database, sender: Sender, seed: bytes, hosts: Sequence[str]) -> None:
        self._database, self._sender, self._seed, self._hosts = database, sender, seed, hosts

    async def put(self, webhook: Webhook) -> tuple[Webhook, str]:
        """The webhook and its secret. Raises PermissionDenied, InvalidArgument, Conflict."""
        tenant_id = _admins_tenant()
        check_url(webhook.url, self._hosts)
        stored = replace(webhook, key=new_id("key"))
        async with self._database.transaction(tenant_id) as session:
            webhooks = WebhookRepository(session, tenant_id)
            if await webhooks.row(webhook.name) is None and len(await webhooks.all()) >= MOST_WEBHOOKS:
                told = f"There are {MOST_WEBHOOKS} webhooks already; delete one."
                raise Conflict(told, resource="webhook", id=webhook.name)
            await webhooks.put(stored)
        return stored, shown(secret_of(self._seed, tenant_id, stored))

    async def all(self) -> list[Webhook]:
        """By name. Raises PermissionDenied."""
        tenant_id = _admins_tenant()
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return await WebhookRepository(session, tenant_id).all()

    async def delete(self, name: str) -> None:
        """Raises PermissionDenied, NotFound."""
        tenant_id = _admins_tenant()
        async with self._database.transaction(tenant_id) as session:
            webhooks = WebhookRepository(session, tenant_id)
            if await webhooks.row(name) is None:
                raise NotFound("webhook", name)
            await webhooks.delete(name)

    async def deliveries(self, name: str, size: int, token: str) -> tuple[list[Delivery], str]:
        """Newest first. Raises PermissionDenied, NotFound."""
        tenant_id = _admins_tenant()
        async with self._database.transaction(tenant_id, read_only=True) as session:
            webhooks = WebhookRepository(session, tenant_id)
            if await webhooks.row(name) is None:
                raise NotFound("webhook", name)
            return await webhooks.page(name, page_size(size), token)

    async def deliver(self, timer: Timer) -> datetime | None:
        """One attempt; gives when the next one is."""
        async with self._database.transaction(timer.tenant, read_only=True) as session:
            found = await WebhookRepository(session, timer.tenant).delivery(timer.thing)
        if found is None:
            return None
        row, webhook = found
        error = await self._attempt(timer.tenant, row, webhook)
        SENT.labels("failed" if error else "delivered").inc()
        async with self._database.transaction(timer.tenant) as session:
            stored = await session.get(DeliveryRow, row.id, with_for_update=True)
            return None if stored is None else _noted(stored, error)

    async def _attempt(self, tenant_id: str, row: DeliveryRow, webhook: Webhook) -> str:
        """Empty when it was taken, else why not. The operator may list other hosts than when it was made."""
        try:
            check_url(webhook.url, self._hosts)
        except InvalidArgument as error:
            return error.message
        body = _body(row)
        headers = signed(secret_of(self._seed, tenant_id, webhook), row.id, int(time.time()), body)
        return await self._sender.post(webhook.url, body, headers)


def _noted(row: DeliveryRow, error: str) -> datetime | None:
    """Keeps what came of an attempt; when the next one is."""
    row.attempts, row.last_error = row.attempts + 1, error
    if not error:
        row.state = DeliveryState.DELIVERED.value
    elif row.attempts > len(RETRIES):
        row.state = DeliveryState.FAILED.value
        _log.warning("a webhook was given up", webhook=row.webhook, delivery=row.id)
    else:
        return utc_now() + RETRIES[row.attempts - 1]
    return None


def _body(row: DeliveryRow) -> bytes:
    told = {"type": row.event.lower(), "timestamp": row.created_at.isoformat(), "data": row.data}
    return json.dumps(told, ensure_ascii=False).encode()


def _admins_tenant() -> str:
    principal = current_principal()
    if visible_owner(principal) is not None:
        raise PermissionDenied("Only an admin may see or change webhooks.", permission="webhooks")
    return principal.tenant_id
