"""Figures of one ranking against the ids that are relevant, all 0 to 1."""

import math
from collections.abc import Collection, Sequence


def recall_at(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant that is among the first `k`; of more than `k` relevant, of `k`."""
    found = len(set(ranking[:k]) & set(relevant))
    return found / min(len(relevant), k)


def ndcg_at(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain with gains of 0 and 1."""
    gain = sum(1 / math.log2(place + 1) for place, id_ in enumerate(ranking[:k], start=1) if id_ in relevant)
    best = sum(1 / math.log2(place + 1) for place in range(1, min(len(relevant), k) + 1))
    return gain / best


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the place of the first relevant one; 0 when none is there."""
    places = (place for place, id_ in enumerate(ranking, start=1) if id_ in relevant)
    return 1 / next(places, math.inf)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
