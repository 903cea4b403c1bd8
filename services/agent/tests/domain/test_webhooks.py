"""Addresses that may be told, and the signature."""

import base64
import hashlib
import hmac

import pytest
from errand_agent.domain.webhooks import Webhook, WebhookEvent, check_url, secret_of, shown, signed
from errand_common.errors import InvalidArgument

HOSTS = ("hooks.example.com", "*.corp.example", "10.0.0.7:8080")


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/a?b=c", "https://X.corp.example:8443/", "http://10.0.0.7:8080/hook"]
)
def test_listed_hosts_may_be_told(url: str) -> None:
    check_url(url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://hooks.example.com.evil.net/",
        "http://10.0.0.7/",
        "https://user:pass@hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://[bad",
        "https://hooks.example.com:99999/",
        "http://169.254.169.254/latest/meta-data",
    ],
)
def test_all_others_may_not(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_url(url, HOSTS)
    assert refused.value.metadata["field"] == "webhook.url"


def test_nobody_is_told_where_no_host_is_listed() -> None:
    with pytest.raises(InvalidArgument):
        check_url("https://hooks.example.com/", ())


def test_the_signature_is_that_of_standard_webhooks() -> None:
    webhook = Webhook("hook", "https://x", (WebhookEvent.RUN_ENDED,), key="key_1")
    secret = secret_of(b"seed", "acme", webhook)
    headers = signed(secret, "evt_1", 1700000000, b'{"a":1}')
    key = base64.b64decode(shown(secret).removeprefix("whsec_"))
    wanted = hmac.new(key, b'evt_1.1700000000.{"a":1}', hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(wanted).decode()


def test_every_webhook_has_a_secret_of_its_own() -> None:
    first = Webhook("hook", "https://x", (WebhookEvent.RUN_ENDED,), key="key_1")
    again = Webhook("hook", "https://x", (WebhookEvent.RUN_ENDED,), key="key_2")
    secrets = {secret_of(b"seed", "acme", first), secret_of(b"seed", "acme", again), secret_of(b"seed", "b", first)}
    assert len(secrets) == 3
