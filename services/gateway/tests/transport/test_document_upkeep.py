"""Filters, batches, metadata, progress, upkeep and proven deletion, over REST."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from errand.rag.v1 import rag_pb2 as pb
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway
from google.protobuf.json_format import MessageToDict

from .test_admin import make_key, make_tenant
from .test_quotas import ALL

TEXT = b"Staff get thirty days of leave in a year."


@pytest_asyncio.fixture(loop_scope="session")
async def shelf(gateway: RunningGateway) -> str:
    """Path of a new collection."""
    path = f"/api/v1/collections/{new_id('col').replace('_', '-')[:40]}"
    made = await gateway.http.post("/api/v1/collections", json={"name": path.rsplit("/", 1)[1]})
    assert made.status_code == 201
    return path


async def put(http: httpx.AsyncClient, shelf: str, name: str = "leave.txt", **fields: str) -> dict[str, Any]:
    """An uploaded document."""
    response = await http.post(f"{shelf}/documents", files={"file": (name, TEXT + name.encode())}, data=fields)
    assert response.status_code == 202, response.text
    document: dict[str, Any] = response.json()["document"]
    return document


async def test_metadata_and_priority_go_with_the_upload(gateway: RunningGateway, shelf: str) -> None:
    metadata = {"year": 2025, "team": "legal", "draft": False}
    document = await put(gateway.http, shelf, metadata=json.dumps(metadata), priority="7")
    assert document["metadata"] == metadata
    assert document["uploaded_by"]
    assert gateway.backend.rag.headers[-1].priority == 7


async def test_a_document_is_fetched_by_its_url(gateway: RunningGateway, shelf: str) -> None:
    body = {"url": "https://example.com/a", "metadata": {"year": 2025}, "priority": 2, "filename": "a.html"}
    fetched = await gateway.http.post(f"{shelf}/documents/fetch", json=body)
    document = fetched.json()["document"]
    assert (fetched.status_code, document["filename"], document["metadata"]) == (202, "a.html", {"year": 2025})
    assert (await gateway.http.post(f"{shelf}/documents/fetch", json=body)).json()["duplicate"] is True
    for wrong in ({}, {"url": ""}, {"url": "file:///etc/passwd"}, {"url": "https://x.org", "priority": 10}):
        refused = await gateway.http.post(f"{shelf}/documents/fetch", json=wrong)
        assert refused.status_code == 422, refused.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"metadata": "{"}, "metadata"),
        ({"metadata": "[1]"}, "metadata"),
        ({"metadata": '{"Year": 1}'}, "metadata.Year"),
        ({"metadata": '{"year": null}'}, "metadata.year"),
        ({"metadata": '{"year": NaN}'}, "metadata.year"),
        ({"metadata": '{"year": [1]}'}, "metadata.year"),
        ({"metadata": '{"team": "\\u0000"}'}, "metadata.team"),
        ({"metadata": json.dumps({"team": "x" * 1025})}, "metadata.team"),
        ({"metadata": json.dumps({f"f{n}": n for n in range(33)})}, "metadata"),
        ({"priority": "10"}, "priority"),
        ({"priority": "-1"}, "priority"),
        ({"priority": "٧"}, "priority"),
    ],
)
async def test_what_is_said_of_a_document_has_rules(
    gateway: RunningGateway, shelf: str, fields: dict[str, str], field: str
) -> None:
    response = await gateway.http.post(f"{shelf}/documents", files={"file": ("a.txt", TEXT)}, data=fields)
    assert response.status_code == 422
    assert response.json()["details"]["fields"][0]["field"] == field


async def test_a_filter_goes_to_the_search_as_it_was_said(gateway: RunningGateway, shelf: str) -> None:
    await put(gateway.http, shelf, metadata='{"year": 2025}')
    filter_ = {
        "all_of": [
            {"field": "year", "operator": "greater_or_equal", "value": 2024},
            {"any_of": [{"field": "draft", "value": True}, {"field": "team", "operator": "exists"}]},
            {"none_of": [{"field": "filename", "operator": "in", "value": ["a.md", "b.md"]}]},
        ]
    }
    body = {
        "query": "leave",
        "filter": filter_,
        "diversity": 0.5,
        "neighbours": 2,
        "min_similarity": 0.1,
        "rerank": True,
    }
    found = await gateway.http.post(f"{shelf}/search", json=body)
    assert found.status_code == 200, found.text
    assert found.json()["hits"][0]["metadata"] == {"year": 2025}
    assert found.json()["hits"][0]["text_after"] == "more"
    assert (found.json()["reranked"], found.json()["hits"][0]["rerank_score"]) == (True, 0.75)
    asked = gateway.backend.rag.searches[-1]
    assert (asked.diversity, asked.neighbours, asked.rerank) == (0.5, 2, True)
    plain = (await gateway.http.post(f"{shelf}/search", json={"query": "leave"})).json()
    assert (plain["reranked"], plain["hits"][0]["rerank_score"]) == (False, None)
    names = [{"stringValue": "a.md"}, {"stringValue": "b.md"}]
    assert MessageToDict(asked.filter)["allOf"]["filters"] == [
        {"condition": {"field": "year", "operator": "OPERATOR_GREATER_OR_EQUAL", "values": [{"numberValue": 2024.0}]}},
        {
            "anyOf": {
                "filters": [
                    {"condition": {"field": "draft", "operator": "OPERATOR_EQUAL", "values": [{"booleanValue": True}]}},
                    {"condition": {"field": "team", "operator": "OPERATOR_EXISTS"}},
                ]
            }
        },
        {"noneOf": {"filters": [{"condition": {"field": "filename", "operator": "OPERATOR_IN", "values": names}}]}},
    ]


def nested(depth: int) -> dict[str, Any]:
    """A filter that is so deep."""
    node: dict[str, Any] = {"field": "year", "value": 1}
    for _ in range(depth - 1):
        node = {"all_of": [node]}
    return node


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"field": "year"},
        {"field": "Year!", "value": 1},
        {"field": "year", "value": 1, "all_of": [{"field": "year", "value": 1}]},
        {"all_of": []},
        {"all_of": [{"field": "year", "value": 1}], "operator": "less"},
        {"field": "year", "operator": "exists", "value": 1},
        {"field": "year", "operator": "in", "value": 1},
        {"field": "year", "operator": "less", "value": [1]},
        {"field": "year", "operator": "like", "value": "x"},
        {"field": "year", "value": {"a": 1}},
        {"any_of": [{"all_of": [{"field": "year", "value": n} for n in range(32)]} for _ in range(3)]},
        nested(7),
        nested(300),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    gateway: RunningGateway, shelf: str, bad: dict[str, Any]
) -> None:
    response = await gateway.http.post(f"{shelf}/search", json={"query": "x", "filter": bad})
    assert response.status_code == 422, response.text
    assert "filter" in response.json()["details"]["fields"][0]["field"]


async def test_a_batch_answers_in_order(gateway: RunningGateway, shelf: str) -> None:
    await put(gateway.http, shelf)
    name = shelf.rsplit("/", 1)[1]
    searches = [{"query": "nothing", "collections": [name]}, {"query": "leave", "collections": [name], "top_k": 1}]
    answered = await gateway.http.post("/api/v1/search/batch", json={"searches": searches})
    assert [len(answer["hits"]) for answer in answered.json()["answers"]] == [0, 1]
    for wrong in ([], [{"query": "x"}] * 33):
        assert (await gateway.http.post("/api/v1/search/batch", json={"searches": wrong})).status_code == 422


async def test_a_collection_is_changed_rebuilt_and_compared(gateway: RunningGateway) -> None:
    new = {
        "name": new_id("col").replace("_", "-")[:40],
        "metadata_schema": {"year": "number"},
        "reader_roles": ["legal"],
        "writer_roles": ["editor"],
        "max_documents": 3,
    }
    made = (await gateway.http.post("/api/v1/collections", json=new)).json()
    assert {name: made[name] for name in new} == new
    path = f"/api/v1/collections/{made['id']}"
    changed = (await gateway.http.patch(path, json={"reader_roles": [], "max_bytes": 9, "description": "New."})).json()
    assert (changed["reader_roles"], changed["writer_roles"], changed["max_documents"]) == ([], ["editor"], 3)
    assert (changed["max_bytes"], changed["description"]) == (9, "New.")
    rebuilt = await gateway.http.post(f"{path}/reindex", json={"embedding_model": "other"})
    assert (rebuilt.status_code, rebuilt.json()["reindex"]["embedding_model"]) == (202, "other")
    assert (await gateway.http.post(f"{path}/reindex", json={})).status_code == 409
    counted = await gateway.http.post(f"{path}/reconcile", json={"dry_run": True})
    assert counted.json() == {"missing_vectors": 1, "dead_vectors": 0, "consistent": False}
    assert (await gateway.http.patch(path, json={"name": "x"})).status_code == 422


async def events_of(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The documents that a stream tells."""
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line[5:])


async def test_an_ingestion_is_followed_stopped_and_tried_again(gateway: RunningGateway, shelf: str) -> None:
    ready, slow = await put(gateway.http, shelf), await put(gateway.http, shelf, "slow.txt")
    async with gateway.http.stream("GET", f"{shelf}/documents/{ready['id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        steps = [(step["state"], step["progress_percent"]) async for step in events_of(response)]
    assert steps == [("processing", 40), ("ready", 100)]
    assert (await gateway.http.get(f"{shelf}/documents/doc_none/events")).status_code == 404

    path = f"{shelf}/documents/{slow['id']}"
    assert (await gateway.http.post(f"{path}/cancel")).json()["state"] == "cancelled"
    assert (await gateway.http.post(f"{path}/cancel")).status_code == 409
    listed = await gateway.http.get(f"{shelf}/documents?state=cancelled")
    assert [row["id"] for row in listed.json()["items"]] == [slow["id"]]
    assert (await gateway.http.get(f"{shelf}/documents?state=none")).status_code == 422
    assert (await gateway.http.post(f"{shelf}/retry")).json() == {"retried": 1}
    await gateway.http.post(f"{path}/cancel")


async def test_deletions_leave_certificates(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    key = await make_key(gateway, tenant_id=tenant, **ALL)
    user = await make_key(gateway, tenant_id=tenant, roles=["developer"], scopes=["documents"])
    async with gateway.client(key["key"]) as http, gateway.client(user["key"]) as developer:
        await http.post("/api/v1/collections", json={"name": "shelf"})
        first = await put(http, "/api/v1/collections/shelf")
        certificate = (await http.delete(f"/api/v1/collections/shelf/documents/{first['id']}")).json()
        assert (certificate["target_id"], certificate["documents"], certificate["complete"]) == (first["id"], 1, True)
        assert certificate["proofs"] == [{"place": "rows", "looked_for": 1, "found": 0, "pending": False}]
        assert (await http.get(f"/api/v1/deletions/{certificate['id']}")).json() == certificate

        mine = await put(http, "/api/v1/collections/shelf", "mine.txt")
        theirs = await put(developer, "/api/v1/collections/shelf", "theirs.txt")
        assert (await developer.post("/api/v1/deletions", json={"tenant_id": tenant})).status_code == 403
        for wrong in ({}, {"tenant_id": tenant, "principal_id": "x"}, {"tenant_id": "another"}):
            assert (await http.post("/api/v1/deletions", json=wrong)).status_code == 422
        erased = await http.post("/api/v1/deletions", json={"principal_id": theirs["uploaded_by"]})
        assert (erased.status_code, erased.json()["kind"], erased.json()["documents"]) == (201, "principal", 1)
        left = (await http.get("/api/v1/collections/shelf/documents")).json()["items"]
        assert [document["id"] for document in left] == [mine["id"]]
        everything = await http.post("/api/v1/deletions", json={"tenant_id": tenant})
        assert everything.json()["kind"] == "tenant"
        listed = (await http.get("/api/v1/deletions")).json()["items"]
        assert [row["kind"] for row in listed] == ["tenant", "principal", "document"]


async def test_openai_vector_stores_tell_a_cancelled_file(gateway: RunningGateway, shelf: str) -> None:
    slow = await put(gateway.http, shelf, "slow.txt")
    await gateway.http.post(f"{shelf}/documents/{slow['id']}/cancel")
    listed = await gateway.http.get(f"/v1/vector_stores/{slow['collection_id']}/files")
    assert [file["status"] for file in listed.json()["data"]] == ["cancelled"]
    counts = (await gateway.http.get(f"/v1/vector_stores/{slow['collection_id']}")).json()["file_counts"]
    assert (counts["cancelled"], counts["total"]) == (1, 1)


def test_the_state_names_of_the_contract_are_known() -> None:
    """A state that the gateway lacks would be told as pending."""
    from errand_gateway.domain.documents import DocumentState  # noqa: PLC0415

    names = {name.removeprefix("DOCUMENT_STATE_").lower() for name in pb.DocumentState.DESCRIPTOR.values_by_name}
    assert names - {"unspecified"} == {state.value for state in DocumentState}
