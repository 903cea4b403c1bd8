"""OpenAI's own package against files, vector stores and conversations, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from openai import AsyncOpenAI

from .test_admin import make_key, make_tenant

HANDBOOK = b"Everybody has thirty days of leave."


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    key = await make_key(
        gateway, tenant_id=await make_tenant(gateway), roles=["developer"], scopes=["chat", "documents"]
    )
    async with httpx2.AsyncClient(verify=False) as http:
        yield AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key["key"], http_client=http, max_retries=0)


async def test_file_is_kept_listed_and_deleted(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("handbook.txt", HANDBOOK), purpose="assistants")
    assert (file.filename, file.bytes, file.status) == ("handbook.txt", len(HANDBOOK), "processed")
    assert (await client.files.content(file.id)).content == HANDBOOK
    other = await client.files.create(file=("b.txt", b"b"), purpose="user_data")
    assert [row.id async for row in client.files.list(limit=1)] == [other.id, file.id]
    assert [row.id async for row in client.files.list(purpose="assistants")] == [file.id]
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        await client.files.delete(file.id)


async def test_file_is_put_into_a_store_and_found(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Staff: handbook & more")
    assert store.name.startswith("Staff-handbook-more-")
    file = await client.files.create(file=("handbook.txt", HANDBOOK), purpose="assistants")
    put = await client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    assert (put.id, put.status, put.vector_store_id) == (file.id, "completed", store.id)
    found = await client.vector_stores.search(store.id, query="days of leave", max_num_results=3)
    assert [(hit.file_id, hit.filename, hit.content[0].text) for hit in found.data] == [
        (file.id, "handbook.txt", HANDBOOK.decode())
    ]
    several = await client.vector_stores.search(store.id, query=["days", "leave"])
    assert len(several.data) == 1
    again = await client.vector_stores.retrieve(store.id)
    assert (again.file_counts.completed, again.file_counts.total, again.usage_bytes) == (1, 1, len(HANDBOOK))
    assert [row.id for row in (await client.vector_stores.files.list(store.id)).data] == [file.id]
    await client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    assert (await client.vector_stores.files.list(store.id)).data == []
    assert (await client.files.retrieve(file.id)).id == file.id


async def test_stores_are_listed_page_by_page_and_deleted(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("handbook.txt", HANDBOOK), purpose="assistants")
    names = ["one-store", "two-store", "three-store"]
    made = [await client.vector_stores.create(name=name, file_ids=[file.id]) for name in names]
    assert [store.name for store in made] == names
    assert made[0].file_counts.total == 1
    listed = [store.id async for store in client.vector_stores.list(limit=2)]
    assert listed == [store.id for store in reversed(made)]
    assert (await client.vector_stores.delete(made[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.retrieve(made[0].id)
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.list(after=made[0].id)


async def test_conversation_holds_what_was_said(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(metadata={"title": "Leave"})
    await client.responses.create(model="agent:default", input="hello", conversation=conversation.id)
    items: Any = await client.conversations.items.list(conversation.id, order="asc")
    assert [(item.role, item.content[0].text) for item in items.data] == [
        ("user", "hello"),
        ("assistant", "You said: hello"),
    ]
    rest: Any = await client.conversations.items.list(conversation.id, order="asc", after=items.data[0].id)
    assert [item.role for item in rest.data] == ["assistant"]
    one: Any = await client.conversations.items.retrieve(items.data[1].id, conversation_id=conversation.id)
    assert one.content[0].text == "You said: hello"
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"agent": "default", "title": "Leave"}
    assert (await client.conversations.delete(conversation.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(conversation.id)


async def test_what_is_not_offered_is_refused_by_name(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="a-store")
    refused: list[tuple[str, Any]] = [
        ("filters", client.vector_stores.search(store.id, query="x", filters={"type": "eq", "key": "a", "value": "b"})),
        ("rewrite_query", client.vector_stores.search(store.id, query="x", rewrite_query=True)),
        ("metadata", client.vector_stores.create(metadata={"a": "b"})),
        ("expires_after", client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})),
        ("purpose", client.files.create(file=("a.txt", b"a"), purpose="fine-tune")),
        ("metadata", client.conversations.create(metadata={"a": "b"})),
        ("items", client.conversations.create(items=[{"role": "user", "content": "x"}])),
        ("attributes", client.vector_stores.files.create(store.id, file_id="file_1", attributes={"a": "b"})),
    ]
    for param, call in refused:
        with pytest.raises(openai.BadRequestError) as error:
            await call
        assert error.value.param == param


async def test_empty_and_nameless_files_are_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.files.create(file=("a.txt", b""), purpose="assistants")


async def test_other_tenants_files_are_not_found(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("a.txt", b"secret"), purpose="assistants")
    store = await client.vector_stores.create(name="mine")
    stranger = client.with_options(api_key=ADMIN_KEY)
    calls: list[Any] = [
        stranger.files.retrieve(file.id),
        stranger.files.content(file.id),
        stranger.files.delete(file.id),
        stranger.vector_stores.retrieve(store.id),
        stranger.vector_stores.search(store.id, query="x"),
        stranger.vector_stores.files.create(store.id, file_id=file.id),
        stranger.vector_stores.delete(store.id),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            await call
    assert file.id not in [row.id async for row in stranger.files.list()]
