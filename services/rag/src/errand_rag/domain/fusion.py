"""Weighted reciprocal rank fusion."""

from collections.abc import Mapping, Sequence

# Cormack et al. (2009) fuse many rankings of like quality with 60. Of two, one of which often errs
# below its first places, 10 keeps a first place worth more than agreement far down.
RANK_CONSTANT = 10


def fuse(*rankings: Sequence[str], weights: Sequence[Mapping[str, float]] = ()) -> dict[str, float]:
    """Score of each id, best first: the sum over the lists of weight / (10 + its place from 1).

    `weights` are by list and id; what is not in them weighs 1.
    """
    scores: dict[str, float] = {}
    for number, ranking in enumerate(rankings):
        weight = weights[number] if number < len(weights) else {}
        for place, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + weight.get(item, 1.0) / (RANK_CONSTANT + place)
    return dict(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0])))


def contenders(firm: Sequence[str], weighted: Sequence[str], limit: int) -> set[str]:
    """What can be among the `limit` best of `fuse(firm, weighted)`, whatever weights of 0 to 1 the second ranking gets.

    The first `limit` of the firm ranking score at least what the last of them has from its place alone.
    """
    if len(firm) < limit:
        return {*firm, *weighted}
    certain = 1.0 / (RANK_CONSTANT + limit)
    return {item for item, highest in fuse(firm, weighted).items() if highest >= certain}
