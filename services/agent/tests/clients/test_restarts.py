"""Services that are just starting again are waited for; those that stay away are done without."""

import asyncio
from typing import Any

import pytest
from errand_agent.clients import rag, tools
from errand_agent.clients.rag import RagRetriever
from errand_agent.clients.tools import ToolsToolbox
from errand_agent.testing.backend import FakeBackend
from errand_common.errors import ErrandError
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_common.testing.rpc import serving


async def _lists_tools(target: str) -> Any:
    async with create_channel(target) as channel:
        return await ToolsToolbox(channel).declared(["calculator"])


async def _searches(target: str) -> Any:
    async with create_channel(target) as channel:
        return await RagRetriever(channel).find("the warranty", collections=[], top_k=3, min_similarity=0.2)


@pytest.mark.parametrize("ask", [_lists_tools, _searches])
async def test_a_service_that_starts_meanwhile_answers(ask: Any, keys: TestKeys) -> None:
    port = free_port()
    with acting_as(principal(), signer=keys.signer):
        asked = asyncio.create_task(ask(f"127.0.0.1:{port}"))
        # Longer than the retries of a call that does not wait.
        await asyncio.sleep(1.5)
        async with serving(FakeBackend().registrations(), keys, port=port):
            assert len(await asked) == 1


@pytest.mark.parametrize("ask", [_lists_tools, _searches])
async def test_one_that_stays_away_is_an_error(ask: Any, keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_LIST_SECONDS", 0.3)
    monkeypatch.setattr(rag, "_SEARCH_SECONDS", 0.3)
    with acting_as(principal(), signer=keys.signer), pytest.raises(ErrandError):
        await ask(f"127.0.0.1:{free_port()}")
