"""Limits, quotas and models move their figures, on the gateway's own page."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from errand_common.errors import Unavailable
from errand_common.principal import Principal
from errand_common.testing.keys import TestKeys, principal
from errand_gateway import app
from errand_gateway.domain.quota_keeper import QuotaKeeper, Reservation
from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.records import Recorder
from errand_gateway.telemetry import ObservedKeeper
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings
from prometheus_client import REGISTRY
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


async def test_a_store_of_quotas_that_is_away_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(self: QuotaKeeper, principal: Principal, bound: Spend) -> Reservation:
        raise ConnectionError("the database went away")

    monkeypatch.setattr(QuotaKeeper, "reserve", away)
    before = REGISTRY.get_sample_value("quota_store_failures_total") or 0.0
    keeper: Any = object.__new__(ObservedKeeper)
    with pytest.raises(ConnectionError):
        await keeper.reserve(principal(), Spend())
    assert REGISTRY.get_sample_value("quota_store_failures_total") == before + 1


async def test_records_that_are_lost_or_found_again_are_counted(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gateway dies with records that nobody has written down, and has room for few."""
    settings = test_settings(tmp_path, backend, keys, record_flush_seconds=60)
    monkeypatch.setattr(app, "Recorder", partial(Recorder, capacity=2))
    async with running_gateway(settings, backend, template=template) as gateway:
        before = await _figure(gateway.http, "gateway_records_dropped_total")
        for _ in range(5):
            assert (await gateway.http.get("/api/v1/agents")).status_code == 200
        assert await _figure(gateway.http, "gateway_records_dropped_total") - before == 3
        found = await _figure(gateway.http, "gateway_records_recovered_total")
        left = tmp_path / "died"
        shutil.copytree(settings.data_dir, left)
    async with running_gateway(test_settings(left, backend, keys), backend, template=template) as successor:
        assert await _figure(successor.http, "gateway_records_recovered_total") - found == 2


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


async def test_a_route_s_first_fault_counts_against_the_objective(gateway: RunningGateway) -> None:
    """A series that is born with its first event has no rate of it, so it is there before."""
    assert (await gateway.http.get("/api/v1/agents")).is_success
    labels = {"method": "GET", "route": "/api/v1/agents"}
    shown = [
        REGISTRY.get_sample_value("http_requests_total", {**labels, "status": status}) for status in ("503", "501")
    ]
    assert shown == [0, None]
