# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake inference service: calls the first tool that is offered, else echoes."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from errand.common.v1 import common_pb2
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import ErrandError, ModelUnavailable

MODEL: Final = "tiny"
EMBEDDING_MODEL: Final = "embed-small"


class FakeInference(inference_pb2_grpc.InferenceServiceServicer):
    """Serves one model, `tiny`; `requests` keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[pb.GenerateRequest] = []
        self.fail_with: ErrandError | None = None

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        """One model turn."""
        self.requests.append(request)
        if self.fail_with is not None:
            raise self.fail_with
        if request.model not in ("", MODEL):
            raise ModelUnavailable(f"there is no model {request.model!r}", model=request.model)
        response = pb.GenerateResponse(
            usage=common_pb2.TokenUsage(prompt_tokens=12, completion_tokens=4, cached_tokens=2),
            model=MODEL,
            finish_reason=pb.FINISH_REASON_STOP,
        )
        if _calls(request):
            response.calls.add(name=request.tools[0].name, arguments_json='{"city":"Paris"}')
            response.finish_reason = pb.FINISH_REASON_TOOL_CALLS
        elif request.response_schema_json:
            response.text = json.dumps({"echo": _last_text(request)})
        else:
            response.text = f"Echo: {_last_text(request)}"
        return response

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """The same turn, word by word."""
        result = await self.Generate(request.request, context)
        for index, word in enumerate(result.text.split(" ") if result.text else []):
            yield pb.GenerateStreamResponse(text_delta=f" {word}" if index else word)
        for call in result.calls:
            yield pb.GenerateStreamResponse(call=call)
        yield pb.GenerateStreamResponse(result=result)

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Vectors of three numbers."""
        if request.model not in ("", EMBEDDING_MODEL):
            raise ModelUnavailable(f"there is no model {request.model!r}", model=request.model)
        return pb.EmbedResponse(
            embeddings=[pb.Embedding(values=[1.0, 0.0, 0.0]) for _ in request.texts],
            model=EMBEDDING_MODEL,
            dimensions=3,
            usage=common_pb2.TokenUsage(prompt_tokens=len(request.texts)),
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The one model."""
        model = pb.Model(
            name=MODEL,
            engine="scripted",
            precision="fp32",
            context_tokens=2048,
            capabilities=[pb.CAPABILITY_STREAMING],
            is_default=True,
        )
        return pb.ListModelsResponse(models=[model], embedding_models=[EMBEDDING_MODEL])


def _calls(request: pb.GenerateRequest) -> bool:
    answered = request.messages[-1].HasField("tool")
    forbidden = request.tool_choice.mode == pb.TOOL_CHOICE_MODE_NONE
    return bool(request.tools) and not answered and not forbidden


def _last_text(request: pb.GenerateRequest) -> str:
    last = request.messages[-1]
    if last.HasField("tool"):
        return last.tool.result_json
    return last.user.text or last.model.text
