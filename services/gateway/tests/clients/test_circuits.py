"""Circuits: what opens one, what closes it, and what requests are told meanwhile."""

from pathlib import Path

import pytest
from errand_common.errors import Unavailable
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.clients.circuits import Circuit
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import running_gateway, test_settings


def opened(now: list[float]) -> Circuit:
    """A circuit whose service could not be reached five times."""
    circuit = Circuit("test", clock=lambda: now[0])
    for _ in range(5):
        circuit.enter()
        circuit.failed()
    return circuit


def test_failures_in_a_row_open_it_and_one_success_closes_it() -> None:
    now = [0.0]
    circuit = opened(now)
    with pytest.raises(Unavailable):
        circuit.enter()
    now[0] = 2.5
    circuit.enter()
    with pytest.raises(Unavailable):
        circuit.enter()
    circuit.succeeded()
    for _ in range(3):
        circuit.enter()


def test_a_success_between_failures_keeps_it_closed() -> None:
    circuit = Circuit("test")
    for _ in range(20):
        circuit.enter()
        circuit.failed()
        circuit.succeeded()


def test_a_failed_trial_keeps_it_open() -> None:
    now = [0.0]
    circuit = opened(now)
    now[0] = 2.5
    circuit.enter()
    circuit.failed()
    now[0] = 4.0
    with pytest.raises(Unavailable):
        circuit.enter()


async def test_requests_fail_at_once_while_a_service_is_away_and_others_go_on(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, agent_target=f"127.0.0.1:{free_port()}")
    async with running_gateway(settings, backend, template=template) as gateway:
        for _ in range(5):
            await gateway.http.post("/api/v1/chat", json={"message": "hi"})
        answers = [await gateway.http.post("/api/v1/chat", json={"message": "hi"}) for _ in range(10)]
        metrics = (await gateway.http.get("/metrics")).text
        collections = await gateway.http.get("/api/v1/collections")
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["details"]["dependency"] == "agent"
    assert answers[0].headers["retry-after"] == "1"
    assert 'circuits_open{target="agent"} 1.0' in metrics
    assert 'circuits_open{target="rag"} 0.0' in metrics
    assert collections.status_code == 200


async def test_a_service_that_says_something_behind_it_is_away_is_asked_again(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    backend.agent.fail_with = Unavailable("database")
    async with running_gateway(test_settings(tmp_path, backend, keys), backend, template=template) as gateway:
        for _ in range(8):
            assert (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).status_code == 503
        backend.agent.fail_with = None
        assert (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
