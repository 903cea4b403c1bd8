"""Collections, documents and search."""

from pathlib import Path

import pytest
from errand_common.db import new_id
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings

TEXT = b"Staff get thirty days of leave in a year."


@pytest.fixture
def name() -> str:
    return new_id("col").replace("_", "-")[:40]


async def test_document_is_uploaded_found_and_deleted(gateway: RunningGateway, name: str) -> None:
    made = await gateway.http.post("/api/v1/collections", json={"name": name, "description": "Staff"})
    assert made.status_code == 201
    documents = f"/api/v1/collections/{name}/documents"
    uploaded = await gateway.http.post(documents, files={"file": ("leave.txt", TEXT, "text/plain")})
    assert uploaded.status_code == 202
    document = uploaded.json()["document"]
    assert (document["filename"], document["size_bytes"]) == ("leave.txt", len(TEXT))
    again = await gateway.http.post(documents, files={"file": ("leave.txt", TEXT)})
    assert again.json()["duplicate"] is True

    found = await gateway.http.post(f"/api/v1/collections/{name}/search", json={"query": "leave", "top_k": 3})
    assert [hit["document_id"] for hit in found.json()["hits"]] == [document["id"]]
    everywhere = await gateway.http.post("/api/v1/search", json={"query": "leave", "collections": [name]})
    assert everywhere.json()["hits"] == found.json()["hits"]

    one = await gateway.http.get(f"{documents}/{document['id']}")
    assert one.json() == (await gateway.http.get(documents)).json()["items"][0]
    deleted = await gateway.http.delete(f"{documents}/{document['id']}")
    assert (deleted.status_code, deleted.json()["kind"], deleted.json()["documents"]) == (200, "document", 1)
    assert (await gateway.http.get(f"{documents}/{document['id']}")).status_code == 404
    assert (await gateway.http.delete(f"/api/v1/collections/{name}")).json()["kind"] == "collection"
    assert (await gateway.http.get(f"/api/v1/collections/{name}")).status_code == 404


async def test_document_is_not_found_through_another_collection(gateway: RunningGateway, name: str) -> None:
    for collection in (name, f"{name}-b"):
        await gateway.http.post("/api/v1/collections", json={"name": collection})
    uploaded = await gateway.http.post(f"/api/v1/collections/{name}/documents", files={"file": ("a.txt", TEXT)})
    document = uploaded.json()["document"]["id"]
    wrong = f"/api/v1/collections/{name}-b/documents/{document}"
    assert (await gateway.http.get(wrong)).status_code == 404
    assert (await gateway.http.delete(wrong)).status_code == 404


async def test_default_collection_is_made_by_the_first_upload(
    tmp_path: Path, keys: TestKeys, template: Path, gateway: RunningGateway
) -> None:
    key = (await gateway.http.post("/api/v1/admin/tenants", json={"id": "uploads"})).json()["id"]
    made = await gateway.http.post(
        "/api/v1/admin/keys",
        json={"name": "k", "tenant_id": key, "roles": ["developer"], "scopes": ["documents"]},
    )
    async with gateway.client(made.json()["key"]) as http:
        missing = await http.get("/api/v1/collections/default")
        first = await http.post("/api/v1/collections/default/documents", files={"file": ("a.txt", TEXT)})
        second = await http.post("/api/v1/collections/default/documents", files={"file": ("b.txt", TEXT + b"!")})
    assert [missing.status_code, first.status_code, second.status_code] == [404, 202, 202]


async def test_unknown_collection_is_not_made(gateway: RunningGateway) -> None:
    response = await gateway.http.post("/api/v1/collections/nowhere/documents", files={"file": ("a.txt", TEXT)})
    assert response.status_code == 404


async def test_large_document_is_streamed_in_pieces(gateway: RunningGateway, name: str) -> None:
    await gateway.http.post("/api/v1/collections", json={"name": name})
    content = b"0123456789abcdef" * (20 * 65_536)
    response = await gateway.http.post(f"/api/v1/collections/{name}/documents", files={"file": ("big.txt", content)})
    assert response.json()["document"]["size_bytes"] == len(content)
    assert gateway.backend.rag.largest_piece <= 1_048_576
    assert gateway.backend.rag.pieces >= 20


async def test_document_past_the_limit_is_refused(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, upload_mebibytes=1)
    async with running_gateway(settings, backend, template=template) as gateway:
        path = "/api/v1/collections/default/documents"
        response = await gateway.http.post(path, files={"file": ("big.txt", b"x" * 1_048_577)})
        far = await gateway.http.post(path, files={"file": ("big.txt", b"x" * 3_000_000)})
    assert (response.status_code, response.json()["code"]) == (413, "TOO_LARGE")
    assert response.json()["details"] == {"field": "file", "limit": "1048576"}
    assert (far.status_code, far.json()["code"]) == (413, "TOO_LARGE")


@pytest.mark.parametrize(
    ("files", "data", "field"),
    [
        ({"file": ("a.txt", b"")}, {}, "file"),
        ({"other": ("a.txt", TEXT)}, {}, "other"),
        ({"file": ("a.txt", TEXT)}, {"title": "x"}, "title"),
        ({"file": ("x" * 300, TEXT)}, {}, "file.filename"),
    ],
)
async def test_bad_upload_names_the_field(
    gateway: RunningGateway, files: dict[str, tuple[str, bytes]], data: dict[str, str], field: str
) -> None:
    response = await gateway.http.post("/api/v1/collections/default/documents", files=files, data=data)
    assert response.status_code == 422
    assert response.json()["details"]["fields"][0]["field"] == field


async def test_folders_in_file_names_are_dropped(gateway: RunningGateway, name: str) -> None:
    await gateway.http.post("/api/v1/collections", json={"name": name})
    response = await gateway.http.post(
        f"/api/v1/collections/{name}/documents", files={"file": ("../../etc/passwd", TEXT)}
    )
    assert response.json()["document"]["filename"] == "passwd"


async def test_upload_that_is_no_form_is_refused(gateway: RunningGateway) -> None:
    path = "/api/v1/collections/default/documents"
    json_body = await gateway.http.post(path, json={"file": "x"})
    broken = await gateway.http.post(
        path, content=b"--x\r\ngarbage", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    no_boundary = await gateway.http.post(path, content=b"abc", headers={"Content-Type": "multipart/form-data"})
    assert json_body.status_code == 415
    assert broken.status_code == 422
    assert no_boundary.status_code == 422


async def test_pages_lead_through_all_collections(gateway: RunningGateway, name: str) -> None:
    for number in range(3):
        await gateway.http.post("/api/v1/collections", json={"name": f"{name}-{number}"})
    seen: list[str] = []
    token = ""
    while True:
        page = await gateway.http.get("/api/v1/collections", params={"page_size": 2, "page_token": token})
        seen += [collection["name"] for collection in page.json()["items"]]
        token = page.json()["next_page_token"]
        if not token:
            break
    assert [found for found in seen if found.startswith(name)] == [f"{name}-{number}" for number in range(3)]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("query", ["page_size=0", "page_size=201", "page_size=x", "page_token=nonsense"])
async def test_bad_page_is_refused(gateway: RunningGateway, query: str) -> None:
    response = await gateway.http.get(f"/api/v1/collections?{query}")
    assert response.status_code == 422
    assert response.json()["details"]["fields"][0]["field"] in {"page_size", "page_token"}
