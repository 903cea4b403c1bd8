"""Embeddings from the inference service."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import grpc
from errand.inference.v1 import inference_pb2, inference_pb2_grpc
from errand_common.errors import ModelUnavailable, NotFound
from errand_common.principal import current_principal
from errand_common.rpc.client import acting_as, deadline_seconds, translate_errors
from errand_common.rpc.context import current_token
from errand_common.telemetry.metrics import counting_llm_failures
from errand_common.tokens import TokenSigner

from errand_rag.domain.models import Embeddings, Vector
from errand_rag.domain.ports import Embedder

_TOKEN_SECONDS = 120.0


class InferenceEmbedder:
    """Calls Embed. Inside a caller's RPC the caller's token goes along; background work gets one
    minted for the principal it acts for.
    """

    def __init__(self, channel: grpc.aio.Channel, signer: TokenSigner, *, timeout_seconds: float) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)
        self._signer = signer
        self._timeout_seconds = timeout_seconds

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        """Raises Unavailable, Overloaded, DeadlineExceeded or ModelUnavailable."""
        request = inference_pb2.EmbedRequest(model=model, texts=texts)
        with self._credentials(), counting_llm_failures("rag"):
            try:
                with translate_errors("inference"):
                    response = await self._stub.Embed(request, timeout=deadline_seconds(self._timeout_seconds))
            except NotFound as error:
                raise ModelUnavailable(
                    f"the inference service does not serve the embedding model '{model}'",
                    model=model,
                ) from error
        vectors = tuple(tuple(embedding.values) for embedding in response.embeddings)
        return Embeddings(vectors=vectors, model=response.model)

    def _credentials(self) -> AbstractContextManager[object]:
        if current_token() is not None:
            return nullcontext()
        return acting_as(current_principal(), signer=self._signer, ttl_seconds=_TOKEN_SECONDS)


class InferenceReranker:
    """Calls Rerank for whoever searches."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_seconds: float) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)
        self._timeout_seconds = timeout_seconds

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises Unavailable, Overloaded, DeadlineExceeded or ModelUnavailable."""
        request = inference_pb2.RerankRequest(query=query, texts=texts)
        with counting_llm_failures("rag"), translate_errors("inference"):
            response = await self._stub.Rerank(request, timeout=deadline_seconds(self._timeout_seconds))
        return list(response.scores)


class CachingEmbedder:
    """Remembers vectors by model and text, the least recently used going first."""

    def __init__(self, inner: Embedder, *, max_entries: int) -> None:
        self._inner = inner
        self._max_entries = max_entries
        self._cache: OrderedDict[tuple[str, bytes], tuple[Vector, str]] = OrderedDict()

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        """As the inner one; only texts not seen lately are embedded."""
        keys = [(model, hashlib.sha256(text.encode("utf-8", "replace")).digest()) for text in texts]
        found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            made = await self._inner.embed(list(missing.values()), model=model)
            if any(named != made.model for _, named in found.values()):
                # The default model changed: what was remembered of the old one is of no use.
                self._cache.clear()
                return await self.embed(texts, model=model)
            found.update((key, (vector, made.model)) for key, vector in zip(missing, made.vectors, strict=True))
        self._remember(found)
        chosen = [found[key] for key in keys]
        return Embeddings(vectors=tuple(vector for vector, _ in chosen), model=chosen[0][1])

    def forget(self, collection_id: str) -> None:
        """Drops everything: a vector does not tell which collection its text was of."""
        self._cache.clear()

    def _remember(self, found: dict[tuple[str, bytes], tuple[Vector, str]]) -> None:
        self._cache.update(found)
        for key in found:
            self._cache.move_to_end(key)
        while len(self._cache) > self._max_entries:
            self._cache.popitem(last=False)
