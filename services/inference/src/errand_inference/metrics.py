"""The inference service's rows of the metric table."""

from __future__ import annotations

from errand_common.errors import ErrandError
from errand_common.telemetry.metrics import CIRCUITS_OPEN, counter, exemplar, gauge, histogram

from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.generation import GenerationResult

TOKENS = counter("llm_tokens_total", "Tokens, by direction (prompt, completion)", "direction")
CACHED = counter("llm_cached_tokens_total", "Prompt tokens that the prefix cache had already")
FIRST_TOKEN = histogram("llm_first_token_seconds", "Time from a request's arrival to its first token")
GENERATION = histogram("llm_generation_seconds", "Time from a request's arrival to the end of its turn")
QUEUE_WAIT = histogram("llm_queue_wait_seconds", "Time a request waited for a slot in the batch")
QUEUED = gauge("llm_queue_depth", "Requests that wait", "model")
RUNNING = gauge("llm_batch_size", "Requests in the batch", "model")
PROVIDER_UP = gauge("llm_provider_up", "Whether a remote model's provider answered the last probes (1, 0)", "model")
GRAMMARS = counter("llm_grammars_total", "Grammars looked up, by result (hit, miss)", "result")
FINISHED = counter("llm_generations_total", "Turns, by finish reason", "finish")
REJECTED_CALLS = counter("llm_rejected_calls_total", "Calls left out because their arguments break the schema")
REPAIRED = counter("llm_repairs_total", "Turns begun again because nothing of them could be answered with")
FAILED = counter("llm_failed_attempts_total", "Attempts that a model failed, by model and reason", "model", "reason")
LOADS = counter("llm_model_loads_total", "Models loaded or replaced, by result (loaded, failed)", "result")
SHADOWED = counter(
    "llm_shadow_requests_total",
    "Requests sent to a shadow too, by shadow and what came of it (same, different, failed, skipped)",
    *("model", "result"),
)
EMBEDDED = counter("llm_embedded_texts_total", "Texts embedded")
RERANKED = counter("llm_reranked_texts_total", "Texts that a cross-encoder read with a query")


def watch(dispatcher: Dispatcher) -> None:
    """Asks at each scrape how a model's queue, batch and circuit are: a queue grows while no turn ends."""
    model = dispatcher.model
    QUEUED.labels(model).set_function(lambda: dispatcher.scheduler.queued)
    RUNNING.labels(model).set_function(lambda: dispatcher.scheduler.running)
    CIRCUITS_OPEN.labels(_circuit(model)).set_function(lambda: dispatcher.breaker.is_open)


def unwatch(model: str) -> None:
    """Leaves out a model that is served no more."""
    QUEUED.remove(model)
    RUNNING.remove(model)
    CIRCUITS_OPEN.remove(_circuit(model))
    PROVIDER_UP.remove(model)


def _circuit(model: str) -> str:
    return f"model {model}"


class PrometheusObserver:
    """Counts what the generation use case tells."""

    def grammar_looked_up(self, *, hit: bool) -> None:
        GRAMMARS.labels("hit" if hit else "miss").inc()

    def failed(self, model: str, error: ErrandError) -> None:
        FAILED.labels(model, error.reason.value).inc()

    def finished(self, result: GenerationResult) -> None:
        TOKENS.labels("prompt").inc(result.prompt_tokens)
        TOKENS.labels("completion").inc(result.completion_tokens)
        CACHED.inc(result.cached_tokens)
        FIRST_TOKEN.observe(result.first_token_ms / 1000, exemplar())
        GENERATION.observe(result.total_ms / 1000, exemplar())
        QUEUE_WAIT.observe(result.queue_ms / 1000, exemplar())
        FINISHED.labels(result.finish.value).inc()
        REJECTED_CALLS.inc(result.rejected_calls)
        REPAIRED.inc(result.attempts - 1)
