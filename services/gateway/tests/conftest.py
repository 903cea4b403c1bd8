"""Fixtures of the gateway's tests: a real gateway before fake services, all over loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend, fake_backend
from errand_gateway.testing.gateway import RunningGateway, migrated_template, running_gateway, test_settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests share the loop that the session's gateway runs in."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database."""
    return migrated_template(tmp_path_factory.mktemp("template"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_backend(keys: TestKeys) -> AsyncIterator[FakeBackend]:
    """Fake services over real gRPC."""
    async with fake_backend(keys) as served:
        yield served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory, shared_backend: FakeBackend, keys: TestKeys, template: Path
) -> AsyncIterator[RunningGateway]:
    """One gateway on loopback for all tests that leave it as it is."""
    settings = test_settings(tmp_path_factory.mktemp("gateway"), shared_backend, keys)
    async with running_gateway(settings, shared_backend, template=template) as running:
        yield running


@pytest.fixture
def backend(shared_backend: FakeBackend) -> FakeBackend:
    """The fake services, with nothing told to fail and nothing remembered."""
    shared_backend.reset()
    return shared_backend


@pytest.fixture
def gateway(shared_gateway: RunningGateway, backend: FakeBackend) -> RunningGateway:
    """The gateway."""
    return shared_gateway
