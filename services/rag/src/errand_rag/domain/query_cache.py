"""Answers of searches, remembered until one of the searched collections changes."""

from collections import OrderedDict
from collections.abc import Sequence

from errand_rag.domain.models import Collection, SearchQuery, SearchResult, Traces

Key = tuple[str, tuple[tuple[str, int], ...], str]


class QueryCache:
    """The least recently used goes first.

    A key holds the collections' revisions, which grow in the transaction that changes what is
    found: an answer of an earlier state is never looked up again, in whichever replica it lies.
    """

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self.epoch = 0
        self._answers: OrderedDict[Key, SearchResult] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    @staticmethod
    def key(tenant_id: str, collections: Sequence[Collection], query: SearchQuery) -> Key:
        """What an answer depends on."""
        # As text: to Python the filter values 1 and true are equal.
        return tenant_id, tuple((c.id, c.revision) for c in collections), repr(query)

    def get(self, key: Key) -> SearchResult | None:
        """The answer, or None."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, query: SearchQuery, answer: SearchResult, *, epoch: int) -> None:
        """Remembers an answer that was looked for since `epoch`.

        Not when something was forgotten after that: it may hold what was deleted. One that was found without
        what was asked for (vectors, a cross-encoder) for want of it is not worth it.
        """
        lacks = answer.degraded or (query.rerank and not answer.reranked)
        if lacks or epoch != self.epoch:
            return
        self._answers[key] = answer
        while len(self._answers) > self._max_entries:
            self._answers.popitem(last=False)

    def holding(self, traces: Traces) -> int:
        """Answers with a hit of one of the documents or collections."""
        documents, collections = {id_ for _, id_ in traces.documents}, set(traces.collections)
        return sum(
            any(h.passage.document_id in documents or h.passage.collection_id in collections for h in answer.hits)
            for answer in self._answers.values()
        )

    def forget(self, collection_id: str) -> None:
        """Drops the answers that a collection is part of: they hold text that may be deleted."""
        self.epoch += 1
        for key in [key for key in self._answers if any(id_ == collection_id for id_, _ in key[1])]:
            del self._answers[key]
