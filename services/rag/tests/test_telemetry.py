"""What is counted of searches and ingestion."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Job, SearchQuery
from errand_rag.telemetry import ObservedCache, count_embeddings, observed_ingestion
from prometheus_client import REGISTRY


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_hits_and_misses_of_the_query_cache_are_counted() -> None:
    before = _value("rag_query_cache_total", result="hit"), _value("rag_query_cache_total", result="miss")
    cache = ObservedCache(max_entries=2)
    key = ("acme", (("col_1", 1),), "query")
    answer: Any = type("Answer", (), {"degraded": False})()
    assert cache.get(key) is None
    cache.put(key, SearchQuery("query", ("shelf",)), answer, epoch=cache.epoch)
    assert cache.get(key) is answer
    assert _value("rag_query_cache_total", result="hit") == before[0] + 1
    assert _value("rag_query_cache_total", result="miss") == before[1] + 1


def _ending_in(error: Exception | None) -> Callable[[Job], Awaitable[None]]:
    async def run(_: Job) -> None:
        if error is not None:
            raise error

    return run


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "done"), (DocumentRejected("no text"), "rejected"), (RuntimeError("disk"), "fault")],
)
async def test_attempts_to_ingest_are_counted_by_how_they_end(error: Exception | None, outcome: str) -> None:
    before = _value("rag_ingestion_attempts_total", outcome=outcome)
    job: Any = None
    with nullcontext() if error is None else pytest.raises(type(error)):
        await observed_ingestion(_ending_in(error))(job)
    assert _value("rag_ingestion_attempts_total", outcome=outcome) == before + 1
    assert _value("rag_ingestion_duration_seconds_count", outcome=outcome) >= 1


def test_texts_that_another_replica_embedded_are_counted() -> None:
    before = _value("rag_shared_embeddings_total", result="hit")
    count_embeddings("hit", 3)
    assert _value("rag_shared_embeddings_total", result="hit") == before + 3
