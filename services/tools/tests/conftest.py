"""Parts that the tests of the tools service share."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from errand_common.errors import ErrandError
from errand_tools.builtin import Services
from errand_tools.domain.ports import Passage
from errand_tools.domain.tools import CallContext, JsonObject


class ScriptedKnowledge:
    """A knowledge base that answers what a test wrote."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.asked: list[tuple[str, tuple[str, ...], int]] = []
        self.error: ErrandError | None = None

    async def search(self, query: str, collection_ids: tuple[str, ...], limit: int) -> list[Passage]:
        self.asked.append((query, collection_ids, limit))
        if self.error:
            raise self.error
        return self.passages


class ScriptedWeb:
    """A web of one page."""

    async def get(self, url: str) -> JsonObject:
        return {"status": 200, "body": url}


class ScriptedSandbox:
    """A sandbox that gives the code back."""

    async def run(self, code: str, timeout_seconds: float, inputs: Mapping[str, Any] | None = None) -> JsonObject:
        return {"result": code, "stdout": ""}

    async def check(self, code: str) -> None:
        """All is well."""


@pytest.fixture
def knowledge() -> ScriptedKnowledge:
    return ScriptedKnowledge()


@pytest.fixture
def services(knowledge: ScriptedKnowledge) -> Iterator[Services]:
    with ThreadPoolExecutor(2) as threads:
        yield Services(threads, knowledge, ScriptedWeb(), ScriptedSandbox())


@pytest.fixture
def context() -> CallContext:
    return CallContext(timeout_seconds=5, collection_ids=("col_1",))
