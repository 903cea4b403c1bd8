"""An inference service that embeds by hashing, over real gRPC."""

# ruff: noqa: N802 - the methods are named by the contract

import asyncio
from typing import Any

from errand.inference.v1 import inference_pb2, inference_pb2_grpc
from errand_common.principal import Principal, current_principal
from errand_common.rpc.server import Registration

from errand_rag.testing.embedder import HashingEmbedder


class FakeInference(inference_pb2_grpc.InferenceServiceServicer):
    """Answers Embed. `fault`, when set, is raised; while `gate` is clear, calls wait.

    `callers` and `texts` tell who asked and what was embedded.
    """

    def __init__(self, *, dimensions: int = 384) -> None:
        self._embedder = HashingEmbedder(dimensions)
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.callers: list[Principal] = []
        self.texts: list[str] = []

    async def Embed(self, request: inference_pb2.EmbedRequest, context: Any) -> inference_pb2.EmbedResponse:
        """The texts' hashing vectors, by the model that is asked for."""
        self.callers.append(current_principal())
        if self.fault:
            raise self.fault
        await self.gate.wait()
        self.texts.extend(request.texts)
        vectors = [self._embedder.vector(text) for text in request.texts]
        return inference_pb2.EmbedResponse(
            embeddings=[inference_pb2.Embedding(values=vector) for vector in vectors],
            model=request.model or self._embedder.model,
            dimensions=len(vectors[0]),
        )

    @property
    def registration(self) -> Registration:
        """How a server takes it in."""
        return Registration(
            inference_pb2_grpc.add_InferenceServiceServicer_to_server,
            self,
            "errand.inference.v1.InferenceService",
        )
