"""The policy on personal data, through the door."""

from pathlib import Path

from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import running_gateway, test_settings

SAID = {"message": "I am ada@example.com"}
ASKED = {"model": "tiny", "input": "I am ada@example.com"}


async def test_masked(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, personal_data="mask")
    async with running_gateway(settings, backend, template=template) as gateway:
        assert (await gateway.http.post("/api/v1/chat", json=SAID)).json()["answer"] == "You said: I am [EMAIL]"
        streamed = await gateway.http.post("/api/v1/chat", json=SAID, headers={"Accept": "text/event-stream"})
        assert "[EMAIL]" in streamed.text
        await gateway.http.post("/api/v1/runs", json=SAID)
        assert all("ada@" not in request.message for request in backend.agent.requests)
        answer = (await gateway.http.post("/v1/responses", json=ASKED)).json()
        items = (await gateway.http.get(f"/v1/responses/{answer['id']}/input_items")).text
        assert "[EMAIL]" in items
    assert b"ada@example.com" not in (tmp_path / "gateway.db").read_bytes()


async def test_refused(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, personal_data="block")
    async with running_gateway(settings, backend, template=template) as gateway:
        for headers in ({}, {"Accept": "text/event-stream"}):
            answer = await gateway.http.post("/api/v1/chat", json=SAID, headers=headers)
            assert answer.status_code == 422
            assert "e-mail address" in answer.json()["message"]
            assert "ada@" not in answer.text
        assert (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
    assert [request.message for request in backend.agent.requests] == ["hi"]
