"""LangChain's own OpenAI classes against the gateway, over HTTP."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from errand_gateway.testing.inference import EMBEDDING_MODEL
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

KEY = SecretStr(ADMIN_KEY)


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"Sunny in {city}."


@pytest_asyncio.fixture(loop_scope="session")
async def options(gateway: RunningGateway) -> AsyncIterator[dict[str, Any]]:
    """Where the gateway is, and a connection that is closed at the end."""
    async with httpx2.AsyncClient(verify=False) as http:
        yield {"base_url": f"{gateway.url}/v1", "api_key": KEY, "max_retries": 0, "http_async_client": http}


@pytest.fixture
def chat(options: dict[str, Any]) -> ChatOpenAI:
    return ChatOpenAI(model="tiny", temperature=0, **options)


async def test_a_model_answers_and_counts(chat: ChatOpenAI) -> None:
    answer = await chat.ainvoke([SystemMessage("Be brief."), HumanMessage("hello")])
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0


async def test_an_agent_answers(options: dict[str, Any]) -> None:
    agent = ChatOpenAI(model="agent:default", **options)
    assert (await agent.ainvoke("hello")).text == "You said: hello"


async def test_streaming(chat: ChatOpenAI) -> None:
    chunks = [chunk async for chunk in chat.astream("hello", stream_usage=True)]
    assert len(chunks) > 1
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.text == (await chat.ainvoke("hello")).text
    assert whole.usage_metadata is not None


async def test_tools_are_called_and_their_results_heard(chat: ChatOpenAI) -> None:
    said: list[HumanMessage | AIMessage | ToolMessage] = [HumanMessage("call get_weather")]
    asked = await chat.bind_tools([get_weather]).ainvoke(said)
    assert isinstance(asked, AIMessage)
    assert [call["name"] for call in asked.tool_calls] == ["get_weather"]
    result = await get_weather.ainvoke(asked.tool_calls[0] | {"type": "tool_call", "args": {"city": "Paris"}})
    answer = await chat.ainvoke([*said, asked, result])
    assert isinstance(answer, AIMessage)
    assert answer.text


async def test_embeddings(options: dict[str, Any]) -> None:
    # Without this the package would download a tokenizer's tables, and send numbers instead of text.
    embeddings = OpenAIEmbeddings(model=EMBEDDING_MODEL, check_embedding_ctx_length=False, **options)
    vectors: Sequence[Sequence[float]] = await embeddings.aembed_documents(["one", "two"])
    assert len(vectors) == 2
    assert len(vectors[0]) > 1
