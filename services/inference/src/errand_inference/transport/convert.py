"""Between protobuf messages and the domain's dataclasses."""

from __future__ import annotations

import json

from errand.common.v1 import common_pb2
from errand.inference.v1 import inference_pb2 as pb
from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import (
    JsonValue,
    Message,
    ModelMessage,
    PromptInput,
    ToolCall,
    ToolDeclaration,
    ToolMessage,
    UserMessage,
)
from errand_inference.domain.engine import Capability
from errand_inference.domain.generation import DEFAULT_MAX_TOKENS, FinishReason, GenerationRequest, GenerationResult
from errand_inference.domain.grammar import ToolChoice
from errand_inference.domain.scheduler import Priority
from errand_inference.domain.schemas import parse_schema
from errand_inference.registry import ServedModel

_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    pb.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    pb.PRIORITY_NORMAL: Priority.NORMAL,
    pb.PRIORITY_BATCH: Priority.BATCH,
}
_CHOICES = {
    pb.TOOL_CHOICE_MODE_UNSPECIFIED: ToolChoice.AUTO,
    pb.TOOL_CHOICE_MODE_AUTO: ToolChoice.AUTO,
    pb.TOOL_CHOICE_MODE_NONE: ToolChoice.NONE,
    pb.TOOL_CHOICE_MODE_REQUIRED: ToolChoice.REQUIRED,
    pb.TOOL_CHOICE_MODE_NAMED: ToolChoice.REQUIRED,
}
_FINISHES = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.DEADLINE: pb.FINISH_REASON_DEADLINE,
}
_CAPABILITIES = {
    Capability.GRAMMAR: pb.CAPABILITY_GRAMMAR,
    Capability.STREAMING: pb.CAPABILITY_STREAMING,
    Capability.CONTINUOUS_BATCHING: pb.CAPABILITY_CONTINUOUS_BATCHING,
    Capability.PREFIX_CACHE: pb.CAPABILITY_PREFIX_CACHE,
    Capability.LOGPROBS: pb.CAPABILITY_LOGPROBS,
    Capability.EXACT_TOKENS: pb.CAPABILITY_EXACT_TOKENS,
}


def generation_request(
    request: pb.GenerateRequest, *, tenant_id: str, deadline_seconds: float, streamed: bool
) -> GenerationRequest:
    """The domain's request; raises InvalidArgument that names the field."""
    named = request.tool_choice.mode == pb.TOOL_CHOICE_MODE_NAMED
    if named and not request.tool_choice.name:
        raise InvalidArgument("tool_choice.name: name the tool that must be called.", field="tool_choice.name")
    if request.response_schema_json:
        parse_schema(request.response_schema_json, field="response_schema_json")
    tools = tuple(_declaration(tool, index) for index, tool in enumerate(request.tools))
    sampling = request.sampling
    return GenerationRequest(
        prompt=PromptInput(tuple(_message(m) for m in request.messages), tools, request.instructions),
        schemas={tool.name: tool.parameters_json for tool in request.tools},
        choice=_CHOICES[request.tool_choice.mode],
        only_tool=request.tool_choice.name if named else "",
        single_call=request.tool_choice.single_call,
        max_tokens=sampling.max_tokens or DEFAULT_MAX_TOKENS,
        temperature=sampling.temperature,
        top_p=sampling.top_p or 1.0,
        seed=sampling.seed if sampling.HasField("seed") else None,
        stop=tuple(sampling.stop),
        response_schema_json=request.response_schema_json,
        priority=_PRIORITIES[request.priority],
        tenant_id=tenant_id,
        deadline_seconds=deadline_seconds,
        streamed=streamed,
        logprobs=sampling.logprobs,
    )


def _declaration(tool: pb.ToolDeclaration, index: int) -> ToolDeclaration:
    schema = parse_schema(tool.parameters_json, field=f"tools[{index}].parameters_json")
    return ToolDeclaration(tool.name, tool.description, schema)


def _message(message: pb.Message) -> Message:
    match message.WhichOneof("kind"):
        case "user":
            return UserMessage(message.user.text)
        case "model":
            calls = tuple(
                ToolCall(call.name, _object(call.arguments_json, "messages.model.calls.arguments_json"))
                for call in message.model.calls
            )
            return ModelMessage(message.model.text, calls)
        case _:
            return ToolMessage(message.tool.name, _json(message.tool.result_json, "messages.tool.result_json"))


def _json(text: str, field: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text) if text else None
    except ValueError as error:
        raise InvalidArgument(f"{field}: this is not JSON ({error}).", field=field) from error
    return value


def _object(text: str, field: str) -> dict[str, JsonValue]:
    value = _json(text or "{}", field)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{field}: arguments are a JSON object.", field=field)
    return value


def call_message(call: ToolCall) -> pb.ToolCall:
    """A call for the wire."""
    return pb.ToolCall(name=call.name, arguments_json=json.dumps(dict(call.arguments), ensure_ascii=False))


def response_message(result: GenerationResult) -> pb.GenerateResponse:
    """A turn for the wire."""
    usage = common_pb2.TokenUsage(
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        cached_tokens=result.cached_tokens,
    )
    timing = pb.Timing(queue_ms=result.queue_ms, first_token_ms=result.first_token_ms, total_ms=result.total_ms)
    return pb.GenerateResponse(
        text=result.text,
        calls=[call_message(call) for call in result.calls],
        finish_reason=_FINISHES[result.finish],
        usage=usage,
        model=result.model,
        timing=timing,
        attempts=result.attempts,
        logprobs=[pb.TokenLogprob(token=told.token, logprob=told.logprob) for told in result.logprobs],
    )


def model_message(model: ServedModel, *, is_default: bool) -> pb.Model:
    """A model for the wire."""
    engine = model.engine
    return pb.Model(
        name=model.name,
        engine=engine.name,
        precision=engine.precision,
        context_tokens=engine.context_tokens,
        content_hash=model.content_hash,
        capabilities=sorted(_CAPABILITIES[capability] for capability in engine.capabilities),
        is_default=is_default,
    )
