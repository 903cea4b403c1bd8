"""What is counted of searches and ingestion."""

import time
from collections.abc import Awaitable, Callable

from errand_common.telemetry import configure_logging, configure_tracing
from errand_common.telemetry.metrics import counter, exemplar, from_zero, histogram, serve_metrics

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Job, SearchMode, SearchQuery, SearchResult
from errand_rag.domain.query_cache import Key, QueryCache
from errand_rag.domain.search import SearchService
from errand_rag.settings import RagSettings

SEARCHES = counter("rag_searches_total", "Searches answered, by mode and whether vectors were away", "mode", "degraded")
from_zero(SEARCHES, SearchMode, ("true", "false"))
SEARCH_DURATION = histogram("rag_search_duration_seconds", "Time of a search with the query's embedding", "mode")
CACHE = counter("rag_query_cache_total", "Searches looked up among earlier answers, by result (hit, miss)", "result")
from_zero(CACHE, ("hit", "miss"))
EMBEDDINGS = counter(
    "rag_shared_embeddings_total",
    "Texts looked up in the shared embedding cache, by result (hit, miss, away)",
    "result",
)
INGESTIONS = counter("rag_ingestion_attempts_total", "Attempts to ingest a document, by how they ended", "outcome")
from_zero(INGESTIONS, ("done", "rejected", "fault", "interrupted"))
INGESTION_DURATION = histogram("rag_ingestion_duration_seconds", "Time of an attempt to ingest a document", "outcome")


def configure(settings: RagSettings) -> None:
    """Starts logs, traces and metrics of the process."""
    configure_logging("rag", settings.log_level, settings.log_format)
    configure_tracing("rag", settings)
    serve_metrics(settings.metrics_port, settings.host)


class ObservedSearch(SearchService):
    """A search service whose answers are counted and timed."""

    async def search(self, query: SearchQuery) -> SearchResult:
        """As the service's own."""
        began = time.monotonic()
        result = await super().search(query)
        SEARCHES.labels(query.mode.value, str(result.degraded).lower()).inc()
        SEARCH_DURATION.labels(query.mode.value).observe(time.monotonic() - began, exemplar())
        return result


class ObservedCache(QueryCache):
    """A query cache whose look-ups are counted."""

    def get(self, key: Key) -> SearchResult | None:
        """As the cache's own."""
        answer = super().get(key)
        CACHE.labels("miss" if answer is None else "hit").inc()
        return answer


def observed_ingestion(run: Callable[[Job], Awaitable[None]]) -> Callable[[Job], Awaitable[None]]:
    """The handler, its attempts counted and timed."""

    async def observed(job: Job) -> None:
        began, outcome = time.monotonic(), "interrupted"
        try:
            await run(job)
            outcome = "done"
        except DocumentRejected:
            outcome = "rejected"
            raise
        except Exception:
            outcome = "fault"
            raise
        finally:
            INGESTIONS.labels(outcome).inc()
            INGESTION_DURATION.labels(outcome).observe(time.monotonic() - began)

    return observed


def count_embeddings(result: str, texts: int) -> None:
    """Counts texts that were looked up in the shared embedding cache."""
    EMBEDDINGS.labels(result).inc(texts)
