"""The InferenceService of errand.inference.v1: converts, calls one use case, converts back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from errand.common.v1 import common_pb2
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import ModelUnavailable, PermissionDenied
from errand_common.principal import current_principal
from errand_common.rpc.client import deadline_seconds
from errand_common.telemetry import genai, tracer
from opentelemetry.util.types import AttributeValue

from errand_inference.domain.chat import ToolCall
from errand_inference.domain.generation import Generation, GenerationResult, TextDelta
from errand_inference.embeddings import MODEL_NAME, MiniLmEmbedder
from errand_inference.metrics import EMBEDDED, RERANKED
from errand_inference.registry import ModelRegistry
from errand_inference.reranking import CrossEncoder
from errand_inference.shadow import Shadows
from errand_inference.transport import convert

_LONGEST_SECONDS = 300.0
_ANSWER_SECONDS = 0.25
_tracer = tracer(__name__)


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Serves models and embeddings."""

    def __init__(
        self,
        models: ModelRegistry,
        generation: Generation,
        embedder: MiniLmEmbedder | None,
        shadows: Shadows,
        *,
        reranker: CrossEncoder | None = None,
    ) -> None:
        self._models, self._generation, self._embedder, self._shadows = models, generation, embedder, shadows
        self._reranker = reranker

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        """One whole turn."""
        response = pb.GenerateResponse()
        async with aclosing(self._turn(request, streamed=False)) as events:
            async for event in events:
                if isinstance(event, pb.GenerateResponse):
                    response = event
        return response

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: Any
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        """Deltas, then the whole turn."""
        async with aclosing(self._turn(request.request, streamed=True)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield pb.GenerateStreamResponse(text_delta=event.text)
                elif isinstance(event, ToolCall):
                    yield pb.GenerateStreamResponse(call=convert.call_message(event))
                else:
                    yield pb.GenerateStreamResponse(result=event)

    async def _turn(
        self, request: pb.GenerateRequest, *, streamed: bool
    ) -> AsyncGenerator[TextDelta | ToolCall | pb.GenerateResponse, None]:
        model = self._models.get(request.model)
        wanted = convert.generation_request(
            request,
            tenant_id=current_principal().tenant_id,
            deadline_seconds=_generation_seconds(),
            streamed=streamed,
        )
        attributes = {
            genai.OPERATION: genai.CHAT,
            genai.SYSTEM: f"errand.{model.engine.name}",
            genai.REQUEST_MODEL: request.model or model.name,
        }
        with _tracer.start_as_current_span(f"chat {model.name}", attributes=attributes) as span:
            chain = (model.dispatcher, *self._models.fallbacks(model))
            async with aclosing(self._generation.stream(wanted, *chain)) as events:
                async for event in events:
                    if isinstance(event, GenerationResult):
                        self._models.note(model, wanted.prompt)
                        self._shadows.follow(model, wanted, event)
                        span.set_attributes(_attributes(event))
                        yield convert.response_message(event)
                    else:
                        yield event

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Unit vectors of the texts."""
        if self._embedder is None:
            message = "The embedding model is not installed here; run `python -m errand_inference prepare`."
            raise ModelUnavailable(message, model=MODEL_NAME)
        if request.model not in ("", self._embedder.name):
            raise ModelUnavailable(f"model: {request.model!r} is not an embedding model here.", model=request.model)
        vectors, tokens = await self._embedder.embed(list(request.texts))
        EMBEDDED.inc(len(request.texts))
        return pb.EmbedResponse(
            embeddings=[pb.Embedding(values=vector) for vector in vectors.tolist()],
            model=self._embedder.name,
            dimensions=self._embedder.dimensions,
            usage=common_pb2.TokenUsage(prompt_tokens=tokens),
        )

    async def Rerank(self, request: pb.RerankRequest, context: Any) -> pb.RerankResponse:
        """How well each text answers the query."""
        if self._reranker is None:
            message = "No cross-encoder is served; set ERRAND_INFERENCE_RERANKER_PATH to one, or do without rerank."
            raise ModelUnavailable(message, model=request.model or "reranker")
        if request.model not in ("", self._reranker.name):
            raise ModelUnavailable(f"model: {request.model!r} is not a cross-encoder here.", model=request.model)
        scores, tokens = await self._reranker.score(request.query, list(request.texts))
        RERANKED.inc(len(request.texts))
        usage = common_pb2.TokenUsage(prompt_tokens=tokens)
        return pb.RerankResponse(scores=scores, model=self._reranker.name, usage=usage)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Any) -> pb.CountTokensResponse:
        """Tokens of each text."""
        model = self._models.get(request.model)
        counts = await asyncio.to_thread(model.engine.count_tokens, list(request.texts))
        return pb.CountTokensResponse(counts=counts, model=model.name, context_tokens=model.engine.context_tokens)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The models served."""
        models = self._models.all()
        default = self._models.get("").name
        listed = [convert.model_message(model, is_default=model.name == default) for model in models]
        return pb.ListModelsResponse(
            models=listed,
            embedding_models=[self._embedder.name] if self._embedder else [],
            reranking_models=[self._reranker.name] if self._reranker else [],
        )

    async def LoadModel(self, request: pb.LoadModelRequest, context: Any) -> pb.LoadModelResponse:
        """Serves another model."""
        _require_operator()
        model = await self._models.load_from(request.name, Path(request.path))
        is_default = model.name == self._models.get("").name
        return pb.LoadModelResponse(model=convert.model_message(model, is_default=is_default))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Any) -> pb.UnloadModelResponse:
        """Stops serving a model."""
        _require_operator()
        await self._models.unload(request.name)
        return pb.UnloadModelResponse()

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        """Figures over all models."""
        dispatchers = [model.dispatcher for model in self._models.all()]
        return pb.GetStatsResponse(
            queued=sum(dispatcher.scheduler.queued for dispatcher in dispatchers),
            running=sum(dispatcher.scheduler.running for dispatcher in dispatchers),
            queue_capacity=sum(dispatcher.scheduler.capacity for dispatcher in dispatchers),
            finished=sum(dispatcher.stats.finished for dispatcher in dispatchers),
            refused=sum(dispatcher.stats.refused for dispatcher in dispatchers),
            generated_tokens=sum(dispatcher.stats.generated_tokens for dispatcher in dispatchers),
            tokens_per_second=sum(dispatcher.tokens_per_second() for dispatcher in dispatchers),
            grammar_misses=self._generation.grammars.misses,
            grammar_hits=self._generation.grammars.hits,
        )


def _generation_seconds() -> float:
    """Somewhat less than the call has left: what was generated until then must still reach the caller."""
    left = deadline_seconds(_LONGEST_SECONDS)
    return left - min(_ANSWER_SECONDS, left / 5)


def _attributes(result: GenerationResult) -> dict[str, AttributeValue]:
    return {
        genai.RESPONSE_MODEL: result.model,
        genai.FINISH_REASONS: [result.finish.value],
        genai.INPUT_TOKENS: result.prompt_tokens,
        genai.OUTPUT_TOKENS: result.completion_tokens,
        "errand.queue_ms": result.queue_ms,
        "errand.first_token_ms": result.first_token_ms,
        "errand.cached_tokens": result.cached_tokens,
        "errand.rejected_calls": result.rejected_calls,
        "errand.attempts": result.attempts,
    }


def _require_operator() -> None:
    """Loading reads the service's file system and spends every tenant's memory."""
    if not current_principal().roles & {"owner", "admin"}:
        raise PermissionDenied("Only an owner or an admin may change the served models.", permission="models:write")
