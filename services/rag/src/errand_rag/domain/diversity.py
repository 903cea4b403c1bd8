"""Maximal marginal relevance: hits that tell something new before hits that say the same again."""

from collections.abc import Mapping, Sequence

import numpy as np

from errand_rag.domain.models import Vector


def diversify(
    scores: Mapping[str, float], vectors: Mapping[str, Vector], *, diversity: float, limit: int
) -> tuple[str, ...]:
    """The best `limit` ids, each chosen for its score less its likeness to those chosen before.

    `diversity` 0 keeps the order of the scores, 1 looks at likeness alone (after the first). One
    without a vector is like nothing.
    """
    ids = sorted(scores, key=lambda id_: -scores[id_])
    best = max(scores.values(), default=0.0) or 1.0
    relevance = np.asarray([scores[id_] / best for id_ in ids])
    likeness = _likeness(ids, vectors)
    nearest = np.zeros(len(ids))
    chosen: list[int] = []
    while ids and len(chosen) < min(limit, len(ids)):
        worth = relevance if not chosen else (1 - diversity) * relevance - diversity * nearest
        worth = worth.copy()
        worth[chosen] = -np.inf
        pick = int(np.argmax(worth))
        chosen.append(pick)
        nearest = np.maximum(nearest, likeness[pick])
    return tuple(ids[index] for index in chosen)


def _likeness(ids: Sequence[str], vectors: Mapping[str, Vector]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    width = max((len(vector) for vector in vectors.values()), default=1)
    rows = np.zeros((len(ids), width))
    for index, id_ in enumerate(ids):
        vector = vectors.get(id_, ())
        # Collections of other models have vectors of other widths: like nothing here.
        if len(vector) == width:
            rows[index] = vector
    norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit = rows / norms
    product: np.ndarray[tuple[int, int], np.dtype[np.float64]] = unit @ unit.T
    return product
