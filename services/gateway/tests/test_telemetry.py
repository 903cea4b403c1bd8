"""Limits, quotas and models move their figures, on the gateway's own page."""

from pathlib import Path

import httpx
from errand_common.errors import Unavailable
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings
from prometheus_client.parser import text_string_to_metric_families

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


async def _figure(http: httpx.AsyncClient, name: str, **labels: str) -> float:
    """A series' value now; 0 when there is none yet."""
    page = (await http.get("/metrics")).text
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return next((sample.value for sample in samples if sample.name == name and sample.labels == labels), 0.0)


async def test_what_the_rate_limit_lets_pass_and_refuses_is_counted(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, rate_limit="3/minute")
    async with running_gateway(settings, backend, template=template) as gateway:
        allowed = await _figure(gateway.http, "rate_limit_allowed_total")
        hits = await _figure(gateway.http, "rate_limit_hits_total")
        statuses = [(await gateway.http.get("/api/v1/agents")).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert await _figure(gateway.http, "rate_limit_allowed_total") - allowed == 3
        assert await _figure(gateway.http, "rate_limit_hits_total") - hits == 2


async def test_reservations_are_counted_by_result(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    async with running_gateway(test_settings(tmp_path, backend, keys), backend, template=template) as gateway:
        granted = await _figure(gateway.http, "quota_reservations_total", result="granted")
        refused = await _figure(gateway.http, "quota_reservations_total", result="refused")
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        quota = {"tenant_id": "default", "subject": "tenant", "period": "day", "measure": "tokens", "amount": 1}
        created = await gateway.http.post("/api/v1/admin/quotas", json=quota)
        assert created.status_code == 201, created.text
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 429
        assert await _figure(gateway.http, "quota_reservations_total", result="granted") - granted == 1
        assert await _figure(gateway.http, "quota_reservations_total", result="refused") - refused == 1


async def test_a_model_that_fails_is_counted(gateway: RunningGateway, backend: FakeBackend) -> None:
    before = await _figure(gateway.http, "llm_failures_total", component="gateway")
    backend.inference.fail_with = Unavailable("inference")
    assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 503
    await gateway.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert await _figure(gateway.http, "llm_failures_total", component="gateway") - before == 2


async def test_the_page_comes_in_the_format_that_is_asked_for(gateway: RunningGateway) -> None:
    plain = await gateway.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    modern = await gateway.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
