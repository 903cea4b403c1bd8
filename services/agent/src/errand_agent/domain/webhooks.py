"""Addresses that are told what happens."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from errand_common.errors import InvalidArgument

MOST_WEBHOOKS = 20
# After so long each attempt follows the one before; then it is given up.
RETRIES = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600, 21_600, 43_200))


class WebhookEvent(StrEnum):
    """What is told."""

    APPROVAL_REQUESTED = "APPROVAL_REQUESTED"
    RUN_ENDED = "RUN_ENDED"


class DeliveryState(StrEnum):
    """How a delivery stands."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address and what it is told; `key` names its secret, which is derived and never stored."""

    name: str
    url: str
    events: tuple[WebhookEvent, ...]
    paused: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook; its id is the same in all attempts."""

    id: str
    event: WebhookEvent
    run_id: str
    state: DeliveryState
    attempts: int
    last_error: str
    created_at: datetime


def check_url(url: str, hosts: Sequence[str]) -> None:
    """Raises InvalidArgument for what may not be told anything; `hosts` as the operator lists them."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidArgument("webhook.url: it cannot be read; give https://host/path.", field="webhook.url") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise InvalidArgument("webhook.url: give https://host/path, with no user.", field="webhook.url")
    names = (host, f"{host}:{port}") if port else (host,)
    if not any(fnmatchcase(name.lower(), listed.lower()) for listed in hosts for name in names):
        raise InvalidArgument(
            f"webhook.url: {host!r} is not among the hosts that the operator lists for webhooks.", field="webhook.url"
        )


def secret_of(seed: bytes, tenant_id: str, webhook: Webhook) -> bytes:
    """A webhook's own secret: who has one learns nothing of the others or of the seed."""
    return hmac.new(seed, f"webhook:{tenant_id}:{webhook.name}:{webhook.key}".encode(), hashlib.sha256).digest()


def signed(secret: bytes, delivery_id: str, at: int, body: bytes) -> dict[str, str]:
    """Headers of a request, as the Standard Webhooks say; `at` in seconds since 1970."""
    digest = hmac.new(secret, f"{delivery_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def shown(secret: bytes) -> str:
    """A secret as libraries for Standard Webhooks take it."""
    return "whsec_" + base64.b64encode(secret).decode()
