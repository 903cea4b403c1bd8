"""The labelled set is what the figures claim, and the figures are right."""

from pathlib import Path

import pytest
from errand_rag.evaluation.labelled import KINDS, load
from errand_rag.evaluation.metrics import ndcg_at, percentile, recall_at, reciprocal_rank


def test_it_has_enough_passages_and_queries_of_every_kind() -> None:
    labelled = load()
    assert len(labelled.passages) >= 200
    assert len(labelled.queries) >= 100
    kinds = [query.kind for query in labelled.queries]
    assert all(kinds.count(kind) >= 30 for kind in KINDS)
    assert all(len(query.relevant) > 1 for query in labelled.queries if query.kind == "multi")
    assert len({query.text for query in labelled.queries}) == len(labelled.queries)


def test_a_query_for_a_passage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.md").write_text("# A\n\n## One\n\nText.\n")
    (tmp_path / "queries.tsv").write_text("exact\twhat\ta#Two\n")
    with pytest.raises(ValueError, match="a#Two"):
        load(tmp_path)


def test_recall_counts_the_relevant_among_the_first() -> None:
    assert recall_at(["a", "x", "b"], {"a", "b"}, 2) == 0.5
    assert recall_at(["a"], {"a", "b", "c"}, 1) == 1.0


def test_ndcg_of_a_known_ranking() -> None:
    assert ndcg_at(["a", "b"], {"a", "b"}, 10) == 1.0
    # Relevant at place 2 of one relevant: 1 / log2(3).
    assert ndcg_at(["x", "a"], {"a"}, 10) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg_at(["x"] * 10 + ["a"], {"a"}, 10) == 0.0


def test_reciprocal_rank_and_percentile() -> None:
    assert reciprocal_rank(["x", "y", "a"], {"a"}) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x"], {"a"}) == 0.0
    assert percentile([5.0, 1.0, 3.0, 2.0, 4.0], 0.5) == 3.0
    assert percentile([], 0.5) == 0.0
