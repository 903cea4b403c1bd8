"""Fixtures of the agent's tests: the service as a process, before fakes that this process serves."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, principal

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the service share the loop that its fakes are served in."""
    for item in items:
        if HERE / "transport" in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def backend(keys: TestKeys) -> AsyncIterator[FakeBackend]:
    async with fake_backend(keys) as served:
        yield served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def agent_target(
    tmp_path_factory: pytest.TempPathFactory, keys: TestKeys, backend: FakeBackend
) -> AsyncIterator[str]:
    """One service for all tests that leave it running."""
    process = AgentProcess(tmp_path_factory.mktemp("agent"), keys, backend.target)
    await process.start()
    yield process.target
    assert process.end() == 0


@pytest_asyncio.fixture(loop_scope="session")
async def stub(agent_target: str) -> AsyncIterator[agent_pb2_grpc.AgentServiceStub]:
    async with create_channel(agent_target) as channel:
        yield agent_pb2_grpc.AgentServiceStub(channel)


@pytest.fixture
def caller(keys: TestKeys) -> Iterator[Principal]:
    """A person whose token calls carry."""
    with acting_as(principal(roles=("user",)), signer=keys.signer):
        yield principal(roles=("user",))
