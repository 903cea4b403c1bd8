"""A POST that is sent again with its key gets the first answer and does nothing more."""

import asyncio
from typing import Any

import httpx
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key

KEYS = "/api/v1/admin/keys"


def keyed(key: str | None = None) -> dict[str, str]:
    """The header, with a new key if none is given."""
    return {"Idempotency-Key": key or new_id("key")}


async def test_the_first_answer_is_given_again(gateway: RunningGateway) -> None:
    headers = keyed()
    first = await gateway.http.post(KEYS, json={"name": "x"}, headers=headers)
    again = await gateway.http.post(KEYS, json={"name": "x"}, headers=headers)
    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    other = await gateway.http.post(KEYS, json={"name": "x"}, headers=keyed())
    assert other.json()["id"] != first.json()["id"]


async def test_etag_and_location_are_given_again(gateway: RunningGateway) -> None:
    headers, body = keyed(), {"message": "hi"}
    first = await gateway.http.post("/api/v1/runs", json=body, headers=headers)
    again = await gateway.http.post("/api/v1/runs", json=body, headers=headers)
    assert again.headers["location"] == first.headers["location"]
    assert again.status_code == first.status_code == 202


async def test_another_body_with_the_same_key_is_refused(gateway: RunningGateway) -> None:
    headers = keyed()
    await gateway.http.post(KEYS, json={"name": "x"}, headers=headers)
    other = await gateway.http.post(KEYS, json={"name": "y"}, headers=headers)
    assert other.status_code == 422
    assert other.json()["details"]["fields"][0]["field"] == "Idempotency-Key"
    elsewhere = await gateway.http.post("/api/v1/chat", json={"message": "x"}, headers=headers)
    assert elsewhere.status_code == 422


async def test_keys_of_different_callers_are_different(gateway: RunningGateway) -> None:
    headers = keyed()
    mine = await gateway.http.post(KEYS, json={"name": "mine"}, headers=headers)
    other = await make_key(gateway, roles=["admin"], scopes=["admin", "chat"])
    async with gateway.client(other["key"]) as http:
        theirs = await http.post(KEYS, json={"name": "theirs"}, headers=headers)
    assert mine.status_code == theirs.status_code == 201
    assert theirs.json()["name"] == "theirs"


async def test_of_many_at_once_one_is_carried_out(gateway: RunningGateway) -> None:
    headers = keyed()
    before = len((await gateway.http.get(f"{KEYS}?page_size=200")).json()["items"])
    answers = await asyncio.gather(*(gateway.http.post(KEYS, json={"name": "x"}, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(ids) == 1
    after = (await gateway.http.get(f"{KEYS}?page_size=200")).json()["items"]
    assert len(after) == min(200, before + 1)


async def test_a_request_that_failed_may_be_sent_again(gateway: RunningGateway) -> None:
    headers, agent = keyed(), {"name": new_id("agent")}
    asked = {"message": "hi", "agent": agent["name"]}
    assert (await gateway.http.post("/api/v1/chat", json=asked, headers=headers)).status_code == 404
    await gateway.http.post("/api/v1/agents", json=agent)
    assert (await gateway.http.post("/api/v1/chat", json=asked, headers=headers)).status_code == 200
    # Other tests list this tenant's agents.
    await gateway.http.delete(f"/api/v1/agents/{agent['name']}")


async def test_a_request_whose_client_went_away_may_be_sent_again(gateway: RunningGateway) -> None:
    headers = keyed()
    slow = asyncio.create_task(gateway.http.post("/api/v1/chat", json={"message": "slow"}, headers=headers))
    await asyncio.sleep(0.2)
    busy = await gateway.http.post("/api/v1/chat", json={"message": "slow"}, headers=headers)
    assert busy.status_code == 409
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    # Another body: were the key still held, that would be a 422 or a 409.
    async with asyncio.timeout(10):
        while True:
            answer = await gateway.http.post("/api/v1/chat", json={"message": "quick"}, headers=headers)
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.05)


async def upload(gateway: RunningGateway, content: bytes, headers: dict[str, str]) -> httpx.Response:
    """A file."""
    form: dict[str, Any] = {"data": {"purpose": "assistants"}, "files": {"file": ("a.txt", content)}}
    return await gateway.http.post("/v1/files", headers=headers, **form)


async def test_uploads_are_told_apart_by_their_content(gateway: RunningGateway) -> None:
    headers = keyed()
    first = await upload(gateway, b"one", headers)
    assert (await upload(gateway, b"one", headers)).json() == first.json()
    other = await upload(gateway, b"two", headers)
    assert other.status_code == 400
    assert other.json()["error"]["param"] == "Idempotency-Key"
    content = await gateway.http.get(f"/v1/files/{first.json()['id']}/content")
    assert content.content == b"one"


async def test_a_stream_is_not_kept_but_its_run_is_the_same(gateway: RunningGateway) -> None:
    headers = keyed() | {"Accept": "text/event-stream"}
    first = await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    again = await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    assert first.status_code == again.status_code == 200
    assert "event: ended" in again.text
    other = await gateway.http.post("/api/v1/chat", json={"message": "other"}, headers=headers)
    assert other.status_code == 422


async def test_what_is_shown_once_is_not_readable_in_the_database(gateway: RunningGateway) -> None:
    headers = keyed()
    made = (await gateway.http.post(KEYS, json={"name": "x"}, headers=headers)).json()
    assert (await gateway.http.post(KEYS, json={"name": "x"}, headers=headers)).json()["key"] == made["key"]
    secret = made["key"].rsplit("_", 1)[1]
    for file in gateway.settings.data_dir.glob("gateway.db*"):
        content = file.read_bytes()
        assert secret.encode() not in content
        assert headers["Idempotency-Key"].encode() not in content


async def test_a_key_that_is_none(gateway: RunningGateway) -> None:
    for key in (b"", b"two words", b"x" * 129, "ümlaut".encode()):
        answer = await gateway.http.post(KEYS, json={"name": "x"}, headers=[(b"Idempotency-Key", key)])
        assert answer.status_code == 422, key
    twice = await gateway.http.post(
        KEYS, json={"name": "x"}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert twice.status_code == 422


async def test_every_post_is_described_with_its_key(gateway: RunningGateway) -> None:
    for path, methods in gateway.app.openapi()["paths"].items():
        if "post" in methods and "/auth/" not in path:
            names = [parameter["name"] for parameter in methods["post"]["parameters"] if parameter["in"] == "header"]
            assert names.count("Idempotency-Key") == 1, path


async def test_logging_in_takes_no_key(gateway: RunningGateway) -> None:
    login = {"email": "a@b.c", "password": "x" * 12}
    async with gateway.client(None) as http:
        for path, body in (("login", login), ("refresh", {"refresh_token": "errand_refresh_x"})):
            refused = await http.post(f"/api/v1/auth/{path}", json=body, headers=keyed())
            assert refused.status_code == 422
            assert refused.json()["details"]["fields"][0]["field"] == "Idempotency-Key"
