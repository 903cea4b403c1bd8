"""OpenAI's own package against /v1/responses, over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from errand_common.errors import Internal, Unavailable
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from openai import AsyncOpenAI

from .test_admin import make_key, make_tenant

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with httpx2.AsyncClient(verify=False) as http:
        yield AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=ADMIN_KEY, http_client=http, max_retries=0)


async def test_model_answers(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    answer = await client.responses.create(
        model="tiny", input="hello", instructions="Be brief.", max_output_tokens=64, temperature=0.5
    )
    assert (answer.status, answer.output_text) == ("completed", "Echo: hello")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (12, 4, 16)
    request = gateway.backend.inference.requests[-1]
    assert (request.instructions, request.sampling.max_tokens) == ("Be brief.", 64)


async def test_agent_answers_and_goes_on_with_its_conversation(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    first = await client.responses.create(model="agent:default", input="My name is Ada.")
    assert first.output_text == "You said: My name is Ada."
    assert first.model_extra is not None
    second = await client.responses.create(
        model="agent:default", input="Who am I?", previous_response_id=first.id, instructions="Be brief."
    )
    assert second.previous_response_id == first.id
    request = gateway.backend.agent.requests[-1]
    assert request.message == "Instructions: Be brief.\n\nWho am I?"
    assert request.conversation_id == first.model_extra["errand"]["conversation_id"]
    third = await client.responses.create(model="agent:default", input="hi", conversation=request.conversation_id)
    assert third.status == "completed"
    assert gateway.backend.agent.requests[-1].conversation_id == request.conversation_id


async def test_model_hears_what_was_said_before(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    first = await client.responses.create(model="tiny", input="one")
    second = await client.responses.create(model="tiny", input="two", previous_response_id=first.id)
    await client.responses.create(model="tiny", input="three", previous_response_id=second.id)
    said = [message.user.text or message.model.text for message in gateway.backend.inference.requests[-1].messages]
    assert said == ["one", "Echo: one", "two", "Echo: two", "three"]
    items = await client.responses.input_items.list(second.id, order="asc")
    assert [item.type for item in items.data] == ["message", "message", "message"]
    newest = await client.responses.input_items.list(second.id, limit=1)
    content: Any = newest.data[0]
    assert (content.role, content.content[0].text, newest.has_more) == ("user", "two", True)


async def test_model_calls_a_tool_and_reads_its_result(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    first = await client.responses.create(model="tiny", input="hello", tools=[WEATHER], tool_choice="required")
    call: Any = first.output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "get_weather", '{"city":"Paris"}')
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = await client.responses.create(model="tiny", input=[result], tools=[WEATHER], previous_response_id=first.id)
    assert second.output_text == 'Echo: "sunny"'
    whole = await client.responses.create(
        model="tiny", input=[{"role": "user", "content": "hello"}, call.model_dump(exclude_none=True), result]
    )
    assert whole.output_text == 'Echo: "sunny"'


@pytest.mark.parametrize(("model", "text"), [("tiny", "Echo: hello"), ("agent:default", "You said: hello")])
async def test_streams_the_events_of_one_message(client: AsyncOpenAI, model: str, text: str) -> None:
    stream = await client.responses.create(model=model, input="hello", stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    final = events[-1].response
    assert final.output_text == text
    assert (await client.responses.retrieve(final.id)).output_text == text


async def test_streams_a_call(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="tiny", input="hello", tools=[WEATHER]) as stream:
        final: Any = await stream.get_final_response()
    assert [item.type for item in final.output] == ["function_call"]
    assert final.output[0].arguments == '{"city":"Paris"}'


async def test_structured_output(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    wanted: Any = {"format": {"type": "json_schema", "name": "echo", "schema": {"type": "object"}}}
    answer = await client.responses.create(model="tiny", input="hello", text=wanted)
    assert answer.output_text == '{"echo": "hello"}'
    assert gateway.backend.inference.requests[-1].response_schema_json == '{"type":"object"}'


async def test_background_run_is_fetched_and_cancelled(client: AsyncOpenAI) -> None:
    quick = await client.responses.create(model="agent:default", input="hi", background=True)
    assert quick.status == "queued"
    async with asyncio.timeout(10):
        while quick.status in ("queued", "in_progress"):
            quick = await client.responses.retrieve(quick.id)
    assert (quick.status, quick.output_text) == ("completed", "You said: hi")
    slow = await client.responses.create(model="agent:default", input="slow one", background=True)
    assert (await client.responses.retrieve(slow.id)).status == "in_progress"
    assert (await client.responses.cancel(slow.id)).status == "cancelled"
    assert (await client.responses.cancel(quick.id)).status == "completed"


async def test_deleted_and_unstored_responses_are_not_found(client: AsyncOpenAI) -> None:
    kept = await client.responses.create(model="tiny", input="hello")
    await client.responses.delete(kept.id)
    unkept = await client.responses.create(model="tiny", input="hello", store=False)
    for response_id in (kept.id, unkept.id):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response_id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="tiny", input="x", previous_response_id=response_id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.delete(kept.id)
    with pytest.raises(openai.ConflictError):
        await client.responses.cancel((await client.responses.create(model="tiny", input="hello")).id)


async def test_other_tenants_responses_are_not_found(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    mine = await client.responses.create(model="tiny", input="secret")
    key = await make_key(gateway, tenant_id=await make_tenant(gateway))
    stranger = client.with_options(api_key=key["key"])
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.retrieve(mine.id)
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.input_items.list(mine.id)
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.create(model="tiny", input="x", previous_response_id=mine.id)
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.delete(mine.id)


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        ("tiny", {"reasoning": {"effort": "high"}}, "reasoning"),
        ("tiny", {"truncation": "auto"}, "truncation"),
        ("tiny", {"include": ["message.output_text.logprobs"]}, "include"),
        ("tiny", {"background": True}, "background"),
        ("tiny", {"conversation": "conv_1"}, "conversation"),
        ("tiny", {"nonsense": 1}, "nonsense"),
        ("tiny", {"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ("agent:default", {"tools": [WEATHER]}, "tools"),
        ("agent:default", {"temperature": 0.5}, "temperature"),
        ("agent:default", {"background": True, "stream": True}, "stream"),
        ("agent:default", {"conversation": "c", "previous_response_id": "resp_00"}, "conversation"),
    ],
)
async def test_what_is_not_offered_is_refused_by_name(
    client: AsyncOpenAI, model: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model=model, input="x", extra_body=fields)
    assert refused.value.param == param


async def read_all(client: AsyncOpenAI) -> None:
    """Reads a streamed response to its end."""
    async for _ in await client.responses.create(model="agent:default", input="x", stream=True):
        pass


async def test_a_failed_run_is_an_error(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    gateway.backend.agent.fail_with = Unavailable("inference")
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="agent:default", input="x")
    gateway.backend.agent.fail_with = None
    gateway.backend.agent.break_with = Internal("a fault")
    with pytest.raises(openai.APIError):
        await read_all(client)
