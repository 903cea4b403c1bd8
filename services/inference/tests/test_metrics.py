"""A finished turn moves every figure that tells of turns."""

from errand_common.errors import Unavailable
from errand_inference.domain.generation import FinishReason, GenerationResult
from errand_inference.metrics import PrometheusObserver
from prometheus_client import REGISTRY

RESULT = GenerationResult(
    text="Hello.",
    calls=(),
    finish=FinishReason.STOP,
    prompt_tokens=100,
    completion_tokens=7,
    cached_tokens=80,
    queue_ms=250,
    first_token_ms=400,
    total_ms=900,
    rejected_calls=2,
    attempts=3,
)
MOVED = {
    ("llm_tokens_total", "direction", "prompt"): 100,
    ("llm_tokens_total", "direction", "completion"): 7,
    ("llm_cached_tokens_total", "", ""): 80,
    ("llm_queue_wait_seconds_sum", "", ""): 0.25,
    ("llm_first_token_seconds_sum", "", ""): 0.4,
    ("llm_generation_seconds_sum", "", ""): 0.9,
    ("llm_generations_total", "finish", FinishReason.STOP.value): 1,
    ("llm_rejected_calls_total", "", ""): 2,
    ("llm_repairs_total", "", ""): 2,
    ("llm_grammars_total", "result", "hit"): 1,
}


def _figures() -> dict[tuple[str, str, str], float]:
    return {
        (name, label, value): REGISTRY.get_sample_value(name, {label: value} if label else {}) or 0.0
        for name, label, value in MOVED
    }


def test_a_turn_moves_its_figures() -> None:
    before = _figures()
    observer = PrometheusObserver()
    observer.grammar_looked_up(hit=True)
    observer.finished(RESULT)
    after = _figures()
    assert {key: round(after[key] - before[key], 6) for key in MOVED} == MOVED


def test_an_attempt_that_fails_is_counted_by_model_and_reason() -> None:
    labels = {"model": "far", "reason": "UNAVAILABLE"}
    before = REGISTRY.get_sample_value("llm_failed_attempts_total", labels) or 0.0
    PrometheusObserver().failed("far", Unavailable("model"))
    assert REGISTRY.get_sample_value("llm_failed_attempts_total", labels) == before + 1
