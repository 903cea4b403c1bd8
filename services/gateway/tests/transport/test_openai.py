"""OpenAI's own package against the gateway, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from errand_common.errors import Overloaded
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from openai import AsyncOpenAI

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with httpx2.AsyncClient(verify=False) as http:
        yield AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=ADMIN_KEY, http_client=http, max_retries=0)


async def test_agent_answers(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="agent:default", messages=HELLO)
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 25
    assert answer.model_extra is not None
    assert answer.model_extra["errand"]["stop_reason"] == "answer"
    assert [step["kind"] for step in answer.model_extra["errand"]["steps"]] == ["act", "observe"]


async def test_agent_streams(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="agent:default", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "You said: hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert len({chunk.id for chunk in chunks}) == 1


async def test_agent_hears_what_was_said_before(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Who am I?"},
    ]
    await client.chat.completions.create(model="agent:default", messages=messages)
    assert gateway.backend.agent.requests[-1].message == (
        "Instructions: Be brief.\nUser: My name is Ada.\nAssistant: Hello Ada.\n\nWho am I?"
    )


async def test_agent_goes_on_with_a_stored_conversation(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    first = await client.chat.completions.create(model="agent:default", messages=HELLO)
    assert first.model_extra is not None
    conversation = first.model_extra["errand"]["conversation_id"]
    await client.chat.completions.create(
        model="agent:default",
        messages=[*HELLO, {"role": "assistant", "content": "x"}, {"role": "user", "content": "and now?"}],
        metadata={"conversation_id": conversation},
    )
    request = gateway.backend.agent.requests[-1]
    assert (request.message, request.conversation_id) == ("and now?", conversation)


async def test_model_answers(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    answer = await client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "Be brief."}, *HELLO],
        temperature=0.5,
        top_p=0.9,
        seed=7,
        max_tokens=64,
        stop=["\n"],
    )
    assert answer.choices[0].message.content == "Echo: hello"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    request = gateway.backend.inference.requests[-1]
    assert request.instructions == "Be brief."
    assert request.sampling.max_tokens == 64
    assert request.sampling.seed == 7
    assert list(request.sampling.stop) == ["\n"]


async def test_model_calls_a_tool_and_reads_its_result(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    first = await client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    )
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.content is None
    calls: Any = first.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("get_weather", '{"city":"Paris"}')
    assert gateway.backend.inference.requests[-1].tool_choice.single_call

    result: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny"}
    said: Any = [first.choices[0].message.model_dump(exclude_none=True), result]
    second = await client.chat.completions.create(model="tiny", messages=[*HELLO, *said], tools=[WEATHER])
    assert second.choices[0].message.content == 'Echo: "sunny"'
    told = gateway.backend.inference.requests[-1].messages[-1].tool
    assert (told.name, told.result_json) == ("get_weather", '"sunny"')


async def test_model_streams_text_and_calls(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Echo: hello"
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, tools=[WEATHER], stream=True)
    chunks = [chunk async for chunk in stream]
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name if call.function else None) for call in deltas] == [(0, "get_weather")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_structured_output(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    schema: Any = {"type": "object", "properties": {"echo": {"type": "string"}}}
    answer = await client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "echo", "schema": schema, "strict": True}},
    )
    assert answer.choices[0].message.content == '{"echo": "hello"}'
    assert '"echo"' in gateway.backend.inference.requests[-1].response_schema_json


async def test_models_and_agents_are_listed(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names[0] == "tiny"
    assert {"embed-small", "agent:default"} <= set(names)
    assert (await client.models.retrieve("agent:default")).id == "agent:default"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


async def test_embeddings_in_both_encodings(client: AsyncOpenAI) -> None:
    plain = await client.embeddings.create(model="embed-small", input=["a", "b"], encoding_format="float")
    packed = await client.embeddings.create(model="embed-small", input="a")
    assert [item.embedding for item in plain.data] == [[1.0, 0.0, 0.0]] * 2
    assert packed.data[0].embedding == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("logprobs", True), ("presence_penalty", 0.5), ("logit_bias", {"1": 2}), ("store", True)],
)
async def test_unsupported_parameter_is_refused_by_name(client: AsyncOpenAI, name: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="tiny", messages=HELLO, extra_body={name: value})
    assert refused.value.param == name
    assert refused.value.code == "unsupported_parameter"
    assert name in str(refused.value)


async def test_neutral_values_are_taken(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=HELLO, n=1, logprobs=False, presence_penalty=0, frequency_penalty=0, store=False
    )
    assert answer.choices[0].message.content == "Echo: hello"


async def test_agents_take_no_tools_of_the_caller(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="agent:default", messages=HELLO, tools=[WEATHER])
    assert refused.value.param == "tools"


async def test_errors_have_openais_classes(client: AsyncOpenAI, gateway: RunningGateway) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        await client.chat.completions.create(model="tiny", messages=HELLO, extra_body={"nonsense": 1})
    assert unknown.value.param == "nonsense"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="huge", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="agent:nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="tiny", messages=[])
    gateway.backend.inference.fail_with = Overloaded("full", retry_after_seconds=1)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="errand_nobody_0123456789abcdef01").models.list()


async def test_result_of_an_unknown_call_is_refused(client: AsyncOpenAI) -> None:
    messages: Any = [*HELLO, {"role": "tool", "tool_call_id": "call_x", "content": "1"}]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="tiny", messages=messages)
    assert refused.value.param == "messages.1.tool_call_id"
