"""The policy on personal data, through the door."""

from pathlib import Path

import pytest
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


MAIL = "I am ada@example.com"
NODES = {"nodes": [{"id": "a", "agent": {"message": "x"}}], "max_tokens": 1, "max_seconds": 1}
# What else people write: where, how, and which field it is.
WRITTEN = [
    ("POST", "/api/v1/workflows/mail/runs", {"input": MAIL}, "input"),
    ("PUT", "/api/v1/schedules/daily", {"cron": "0 7 * * *", "message": MAIL}, "message"),
    ("POST", "/api/v1/facts", {"text": MAIL}, "text"),
    ("POST", "/api/v1/conversations", {"title": MAIL}, "title"),
    ("PATCH", "/api/v1/conversations/{conversation_id}", {"title": MAIL}, "title"),
    ("POST", "/api/v1/runs/{run_id}/fork", {"from_model_step": 1, "instructions": MAIL}, "instructions"),
    ("POST", "/api/v1/feedback", {"run_id": "{run_id}", "helpful": True, "comment": MAIL}, "comment"),
    ("POST", "/api/v1/feedback", {"run_id": "{run_id}", "helpful": True, "correction": MAIL}, "correction"),
]


@pytest.mark.parametrize("policy", ["mask", "block"])
async def test_all_that_people_write(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path, policy: str
) -> None:
    settings = test_settings(tmp_path, backend, keys, personal_data=policy)
    async with running_gateway(settings, backend, template=template) as gateway:
        await gateway.http.put("/api/v1/workflows/mail", json=NODES)
        run = (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).json()
        for method, path, body, field in WRITTEN:
            filled = {name: value.format(**run) if isinstance(value, str) else value for name, value in body.items()}
            answer = await gateway.http.request(method, path.format(**run), json=filled)
            assert "ada@" not in answer.text, path
            if policy == "mask":
                assert answer.is_success, (path, answer.text)
            else:
                assert (answer.status_code, answer.json()["details"]["field"]) == (422, field), path
        if policy == "mask":
            for path in ("workflow-runs", "schedules", "facts", "conversations"):
                listed = (await gateway.http.get(f"/api/v1/{path}")).text
                assert "ada@" not in listed
                assert "[EMAIL]" in listed, path


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
