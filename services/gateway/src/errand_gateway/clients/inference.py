"""The inference service over gRPC."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1.inference_pb2_grpc import InferenceServiceStub
from errand_common.rpc.client import deadline_seconds, streaming, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import generation as g

if TYPE_CHECKING:
    from errand.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

DEPENDENCY: Final = "inference"


class GrpcModelBackend:
    """ModelBackend on a channel."""

    def __init__(
        self, channel: grpc.aio.Channel, *, generate_seconds: float = 120.0, call_seconds: float = 30.0
    ) -> None:
        self._stub: InferenceServiceAsyncStub = InferenceServiceStub(channel)
        self._generate_seconds = generate_seconds
        self._call_seconds = call_seconds

    async def generate(self, command: g.GenerateCommand) -> g.Turn:
        """One turn."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.Generate(_request(command), timeout=deadline_seconds(self._generate_seconds))
        return _turn(response)

    async def stream(self, command: g.GenerateCommand) -> AsyncIterator[str | g.Call | g.Turn]:
        """Pieces of text and calls, then the whole turn; closing the iterator ends the generation."""
        call = self._stub.GenerateStream(
            pb.GenerateStreamRequest(request=_request(command)), timeout=deadline_seconds(self._generate_seconds)
        )
        with streaming(call, DEPENDENCY) as answers:
            async for response in answers:
                yield _event(response)

    async def embed(self, model: str, texts: Sequence[str]) -> g.Embeddings:
        """Vectors of unit length."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.Embed(
                pb.EmbedRequest(model=model, texts=texts), timeout=deadline_seconds(self._call_seconds)
            )
        vectors = [list(embedding.values) for embedding in response.embeddings]
        return g.Embeddings(vectors, response.model, convert.usage(response.usage))

    async def list_models(self) -> Sequence[g.ModelInfo]:
        """The models, the default first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListModels(pb.ListModelsRequest(), timeout=deadline_seconds(self._call_seconds))
        models = [g.ModelInfo(model.name, is_embedding=False, is_default=model.is_default) for model in response.models]
        embedding = [
            g.ModelInfo(name, is_embedding=True, is_default=index == 0)
            for index, name in enumerate(response.embedding_models)
        ]
        return [*models, *embedding]


def _request(command: g.GenerateCommand) -> pb.GenerateRequest:
    sampling = command.sampling
    return pb.GenerateRequest(
        model=command.model,
        instructions=command.instructions,
        tools=[
            pb.ToolDeclaration(name=tool.name, description=tool.description, parameters_json=tool.parameters_json)
            for tool in command.tools
        ],
        messages=[_message(message) for message in command.messages],
        tool_choice=pb.ToolChoice(
            mode=convert.enum_number(pb.ToolChoiceMode, "TOOL_CHOICE_MODE_", command.choice.mode),
            name=command.choice.name,
            single_call=command.choice.single_call,
        ),
        sampling=pb.Sampling(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=sampling.stop,
        ),
        response_schema_json=command.response_schema_json,
        priority=pb.PRIORITY_INTERACTIVE,
    )


def _message(message: g.UserTurn | g.ModelTurn | g.ToolTurn) -> pb.Message:
    match message:
        case g.UserTurn(text):
            return pb.Message(user=pb.UserMessage(text=text))
        case g.ModelTurn(text, calls):
            made = [pb.ToolCall(name=call.name, arguments_json=call.arguments_json) for call in calls]
            return pb.Message(model=pb.ModelMessage(text=text, calls=made))
        case g.ToolTurn(name, result_json):
            return pb.Message(tool=pb.ToolMessage(name=name, result_json=result_json))


def _turn(response: pb.GenerateResponse) -> g.Turn:
    return g.Turn(
        text=response.text,
        calls=[_call(call) for call in response.calls],
        finish_reason=convert.enum_or(
            g.FinishReason, pb.FinishReason, response.finish_reason, "FINISH_REASON_", g.FinishReason.STOP
        ),
        usage=convert.usage(response.usage),
        model=response.model,
    )


def _event(response: pb.GenerateStreamResponse) -> str | g.Call | g.Turn:
    match response.WhichOneof("event"):
        case "text_delta":
            return response.text_delta
        case "call":
            return _call(response.call)
        case _:
            return _turn(response.result)


def _call(call: pb.ToolCall) -> g.Call:
    return g.Call(call.name, call.arguments_json or "{}")
