"""Scores as a picture: quality by mode, by kind of query, and the time of a search."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from errand_rag.domain.models import SearchMode
from errand_rag.evaluation.scoring import Score

_QUALITY: Mapping[str, Callable[[Score], float]] = {
    "recall@5": lambda score: score.recall_at_5,
    "recall@10": lambda score: score.recall_at_10,
    "nDCG@10": lambda score: score.ndcg_at_10,
    "MRR": lambda score: score.mrr,
}
_TIMES: Mapping[str, Callable[[Score], float]] = {
    "p50": lambda score: score.p50_ms,
    "p95": lambda score: score.p95_ms,
}


def plot(scores: Mapping[SearchMode, Mapping[str, Score]], file: Path) -> None:
    """Writes the picture in the format that the file's name ends with. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, for those who want pictures

    kinds = [kind for kind in next(iter(scores.values())) if kind != "all"]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    quality, by_kind, times = figure.subplots(1, 3)
    whole = {mode.value: kinds["all"] for mode, kinds in scores.items()}
    _bars(quality, list(_QUALITY), {mode: [of(score) for of in _QUALITY.values()] for mode, score in whole.items()})
    _bars(by_kind, kinds, {mode.value: [of[kind].ndcg_at_10 for kind in kinds] for mode, of in scores.items()})
    _bars(times, list(_TIMES), {mode: [of(score) for of in _TIMES.values()] for mode, score in whole.items()})
    quality.set(title=f"{next(iter(whole.values())).queries} queries", ylim=(0, 1))
    by_kind.set(title="nDCG@10 by kind of query", ylim=(0, 1))
    times.set(title="a search, one at a time", ylabel="ms")
    quality.legend(loc="lower right")
    figure.savefig(file)


def _bars(axes: Any, groups: list[str], series: Mapping[str, list[float]]) -> None:
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        axes.bar([place + number * width for place in range(len(groups))], values, width, label=name)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], groups)
    axes.grid(axis="y", alpha=0.3)
