"""Reciprocal rank fusion."""

from collections.abc import Sequence

# The constant of Cormack et al. (2009): large enough that one list's first place does not beat
# agreement of both lists.
RANK_CONSTANT = 60


def fuse(*rankings: Sequence[str]) -> dict[str, float]:
    """Score of each id, best first: the sum over the lists of 1 / (60 + its place from 1)."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (RANK_CONSTANT + place)
    return dict(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0])))
