"""The labelled set inside a running rag service: uploaded, asked, and deleted again."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from errand.rag.v1 import rag_pb2

from errand_rag.domain.models import SearchMode
from errand_rag.evaluation.labelled import LabelledSet, passage_name
from errand_rag.evaluation.scoring import TOP_K, Score, ask_all, by_kind
from errand_rag.testing.client import RagClient

# What a batch may hold.
_BATCH = 32
_MODES = {
    SearchMode.KEYWORD: rag_pb2.SEARCH_MODE_KEYWORD,
    SearchMode.VECTOR: rag_pb2.SEARCH_MODE_VECTOR,
    SearchMode.HYBRID: rag_pb2.SEARCH_MODE_HYBRID,
}


class EvaluationFailed(Exception):  # noqa: N818 - it says what happened
    """The service did not take the labelled set, or answered without its vectors."""


async def evaluate(client: RagClient, labelled: LabelledSet) -> dict[SearchMode, dict[str, Score]]:
    """Scores by mode and kind of query. Raises EvaluationFailed, ErrandError."""
    async with _uploaded(client, labelled) as collection:

        async def search(text: str, mode: SearchMode) -> Sequence[str]:
            answer = await client.search(text, collection, mode=_MODES[mode], top_k=TOP_K)
            if answer.degraded:
                raise EvaluationFailed("the vectors were away during the evaluation; run it again")
            return [passage_name(hit.filename, hit.heading) for hit in answer.hits]

        # The first searches pay for opening the index and for embedding each query: not in what is measured.
        for start in range(0, len(labelled.queries), _BATCH):
            texts = [query.text for query in labelled.queries[start : start + _BATCH]]
            asked = [rag_pb2.SearchRequest(query=text, collection_ids=[collection]) for text in texts]
            with client.calling() as stub:
                await stub.SearchBatch(rag_pb2.SearchBatchRequest(searches=asked))
        return {mode: by_kind(await ask_all(search, labelled.queries, mode)) for mode in _MODES}


@asynccontextmanager
async def _uploaded(client: RagClient, labelled: LabelledSet) -> AsyncIterator[str]:
    """A collection of its own, gone afterwards."""
    name = f"evaluation-{uuid.uuid4().hex[:12]}"
    await client.collection(name)
    try:
        uploads = [await client.upload(name, file, text) for file, text in labelled.documents.items()]
        for upload in uploads:
            document = await client.settled(upload.document.id, timeout_seconds=120)
            if document.state != rag_pb2.DOCUMENT_STATE_READY:
                raise EvaluationFailed(f"{document.filename} was not ingested: {document.failure}")
        yield name
    finally:
        with client.calling() as stub:
            await stub.DeleteCollection(rag_pb2.DeleteCollectionRequest(id=name))
