"""The inference service as the domain's Model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import grpc
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_agent.domain.ports import Call, ModelTurn, Thought, ToolSpec, ToolTurn, Turn, UserTurn
from errand_agent.domain.runs import Usage

_GENERATE_SECONDS = 60.0
_COUNT_SECONDS = 10.0
_ANSWER_TOKENS = 384


def _message(turn: Turn) -> pb.Message:
    match turn:
        case UserTurn(text):
            return pb.Message(user=pb.UserMessage(text=text))
        case ModelTurn(text, calls):
            listed = [pb.ToolCall(name=call.name, arguments_json=call.arguments_json) for call in calls]
            return pb.Message(model=pb.ModelMessage(text=text, calls=listed))
        case ToolTurn(name, result_json):
            return pb.Message(tool=pb.ToolMessage(name=name, result_json=result_json))


class InferenceModel:
    """Generates over a streaming call, so that text is told as it comes and a cancel frees the slot."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def think(
        self,
        turns: Sequence[Turn],
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec],
        may_call: bool,
        on_text: Callable[[str], Awaitable[None]],
        temperature: float = 0.0,
    ) -> Thought:
        """One model turn."""
        mode = pb.TOOL_CHOICE_MODE_AUTO if may_call else pb.TOOL_CHOICE_MODE_NONE
        request = pb.GenerateRequest(
            model=model,
            instructions=instructions,
            tools=[_declaration(tool) for tool in tools],
            messages=[_message(turn) for turn in turns],
            tool_choice=pb.ToolChoice(mode=mode),
            sampling=pb.Sampling(max_tokens=_ANSWER_TOKENS, temperature=temperature),
        )
        result = pb.GenerateResponse()
        with translate_errors("inference"):
            timeout = deadline_seconds(_GENERATE_SECONDS)
            call = self._stub.GenerateStream(pb.GenerateStreamRequest(request=request), timeout=timeout)
            async for event in call:
                if event.WhichOneof("event") == "text_delta":
                    await on_text(event.text_delta)
                elif event.WhichOneof("event") == "result":
                    result = event.result
        return _thought(result)

    async def count_tokens(self, texts: Sequence[str], *, model: str) -> tuple[list[int], int]:
        """Tokens of each text, and of the context."""
        with translate_errors("inference"):
            response = await self._stub.CountTokens(
                pb.CountTokensRequest(model=model, texts=texts), timeout=deadline_seconds(_COUNT_SECONDS)
            )
        return list(response.counts), response.context_tokens

    async def served(self) -> frozenset[str]:
        """Names of the models, those of other providers among them."""
        with translate_errors("inference"):
            response = await self._stub.ListModels(pb.ListModelsRequest(), timeout=deadline_seconds(_COUNT_SECONDS))
        return frozenset(model.name for model in response.models)

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """By the inference service's default embedding model."""
        with translate_errors("inference"):
            response = await self._stub.Embed(pb.EmbedRequest(texts=texts), timeout=deadline_seconds(_COUNT_SECONDS))
        return [embedding.values for embedding in response.embeddings]


def _declaration(tool: ToolSpec) -> pb.ToolDeclaration:
    return pb.ToolDeclaration(name=tool.name, description=tool.description, parameters_json=tool.parameters_json)


def _thought(result: pb.GenerateResponse) -> Thought:
    usage = Usage(result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.cached_tokens)
    calls = tuple(Call(call.name, call.arguments_json) for call in result.calls)
    cut_off = result.finish_reason in (pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_DEADLINE)
    return Thought(result.text, calls, usage, result.model, cut_off)
