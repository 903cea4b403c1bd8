"""Asks every labelled query in every mode and sums up."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from errand_rag.domain.models import SearchMode
from errand_rag.evaluation.labelled import KINDS, LabelledQuery
from errand_rag.evaluation.metrics import ndcg_at, percentile, recall_at, reciprocal_rank

TOP_K = 10
Search = Callable[[str, SearchMode], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One query's ranking of passages and the time it took."""

    query: LabelledQuery
    ranking: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the queries; latencies in milliseconds."""

    queries: int
    recall_at_5: float
    recall_at_10: float
    ndcg_at_10: float
    mrr: float
    p50_ms: float
    p95_ms: float


async def ask_all(search: Search, queries: Sequence[LabelledQuery], mode: SearchMode) -> tuple[Answer, ...]:
    """One query after the other, so that a latency is that of a search alone."""
    answers = []
    for query in queries:
        began = time.perf_counter()
        ranking = await search(query.text, mode)
        answers.append(Answer(query, tuple(dict.fromkeys(ranking)), time.perf_counter() - began))
    return tuple(answers)


def score(answers: Sequence[Answer]) -> Score:
    """The means of some answers, at least one."""
    times = [answer.seconds * 1000 for answer in answers]
    pairs = [(answer.ranking, answer.query.relevant) for answer in answers]
    return Score(
        queries=len(answers),
        recall_at_5=fmean(recall_at(ranking, relevant, 5) for ranking, relevant in pairs),
        recall_at_10=fmean(recall_at(ranking, relevant, TOP_K) for ranking, relevant in pairs),
        ndcg_at_10=fmean(ndcg_at(ranking, relevant, TOP_K) for ranking, relevant in pairs),
        mrr=fmean(reciprocal_rank(ranking, relevant) for ranking, relevant in pairs),
        p50_ms=percentile(times, 0.5),
        p95_ms=percentile(times, 0.95),
    )


def by_kind(answers: Sequence[Answer]) -> dict[str, Score]:
    """A score for `all` and for each kind of query."""
    scores = {"all": score(answers)}
    for kind in KINDS:
        chosen = [answer for answer in answers if answer.query.kind == kind]
        if chosen:
            scores[kind] = score(chosen)
    return scores


def table(scores: dict[SearchMode, dict[str, Score]]) -> str:
    """All scores as a Markdown table."""
    lines = [
        "| mode | queries | n | recall@5 | recall@10 | nDCG@10 | MRR | p50 ms | p95 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, kinds in scores.items():
        for kind, made in kinds.items():
            lines.append(
                f"| {mode.value} | {kind} | {made.queries} | {made.recall_at_5:.3f} | {made.recall_at_10:.3f} "
                f"| {made.ndcg_at_10:.3f} | {made.mrr:.3f} | {made.p50_ms:.1f} | {made.p95_ms:.1f} |"
            )
    return "\n".join(lines)
