"""The picture of an evaluation."""

from pathlib import Path

import pytest
from errand_rag.domain.models import SearchMode
from errand_rag.evaluation.plotting import plot
from errand_rag.evaluation.scoring import Score

KINDS = ("all", "paraphrase", "exact")
SCORES = {mode: {kind: Score(10, 0.5, 0.6, 0.7, 0.8, 3.0, 9.0) for kind in KINDS} for mode in SearchMode}


def test_modes_measures_and_kinds_are_in_it(tmp_path: Path) -> None:
    plot(SCORES, tmp_path / "scores.svg")
    picture = (tmp_path / "scores.svg").read_text()
    for text in (
        *(mode.value for mode in SearchMode),
        "recall@10",
        "nDCG@10",
        "MRR",
        "paraphrase",
        "p95",
        "10 queries",
    ):
        assert f"<!-- {text} -->" in picture, text


def test_a_format_that_nobody_writes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="svg"):
        plot(SCORES, tmp_path / "scores.odd")
