"""Inference, tools and rag for the agent's tests, over real gRPC. What is asked says what they do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from errand.common.v1 import common_pb2
from errand.inference.v1 import inference_pb2 as inference
from errand.inference.v1 import inference_pb2_grpc
from errand.rag.v1 import rag_pb2 as rag
from errand.rag.v1 import rag_pb2_grpc
from errand.tools.v1 import tools_pb2 as tools
from errand.tools.v1 import tools_pb2_grpc
from errand_common.errors import NotFound, Unavailable
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys
from errand_common.testing.rpc import serving

from errand_agent.domain.agents import BUILTIN_TOOLS

PARAMETERS = json.dumps({"type": "object", "properties": {"expression": {"type": "string"}}})
ANSWER = ("The result ", "is 42.")


class FakeInference(inference_pb2_grpc.InferenceServiceServicer):
    """Calls the calculator when it is asked to "calculate", and answers from its result.

    "delegate" calls the agent "helper" with what follows the word, "fetch" calls http_get, which asks a
    person first, "use NAME ARGUMENTS" calls any tool. "wait" in the question holds the first turn, "hold" the turn
    after the tool, until `release` is set; "away" is a model that does not answer, as is every one while `is_away`.
    """

    def __init__(self) -> None:
        self.turns: Counter[str] = Counter()
        self.models: list[str] = []
        self.instructions: list[str] = []
        self.traces: list[str] = []
        self.is_away = False
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GenerateStream(  # noqa: N802 - the contract's name
        self, request: inference.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[inference.GenerateStreamResponse]:
        """One turn."""
        messages = request.request.messages
        question = next(message.user.text for message in reversed(messages) if message.HasField("user"))
        answered = messages[-1].HasField("tool")
        self.turns[question] += 1
        self.models.append(request.request.model)
        carried = dict(context.invocation_metadata())
        self.traces.append(str(carried.get("traceparent", "")).rpartition("-")[0].rpartition("-")[0])
        self.instructions.append(request.request.instructions)
        if self.is_away or "away" in question:
            raise Unavailable("inference")
        holds = ("hold" in question and answered) or ("wait" in question and not answered)
        if holds and not question.startswith("delegate"):
            await self._hold()
        usage = common_pb2.TokenUsage(prompt_tokens=10, completion_tokens=5)
        result = inference.GenerateResponse(usage=usage, model="fake", finish_reason=inference.FINISH_REASON_STOP)
        if question.startswith("delegate") and not answered:
            told = json.dumps({"message": question.removeprefix("delegate").strip()})
            result.calls.add(name="ask_helper", arguments_json=told)
            result.finish_reason = inference.FINISH_REASON_TOOL_CALLS
        elif question.startswith("use ") and not answered:
            _, name, arguments = question.split(" ", 2)
            result.calls.add(name=name, arguments_json=arguments)
            result.finish_reason = inference.FINISH_REASON_TOOL_CALLS
        elif "calculate" in question and not answered:
            result.calls.add(name="calculator", arguments_json='{"expression": "6 * 7"}')
            result.finish_reason = inference.FINISH_REASON_TOOL_CALLS
        elif "fetch" in question and not answered:
            result.calls.add(name="http_get", arguments_json='{"url": "https://example.com"}')
            result.finish_reason = inference.FINISH_REASON_TOOL_CALLS
        else:
            for piece in ANSWER:
                yield inference.GenerateStreamResponse(text_delta=piece)
            result.text = "".join(ANSWER)
        yield inference.GenerateStreamResponse(result=result)

    async def _hold(self) -> None:
        self.waiting.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def CountTokens(  # noqa: N802 - the contract's name
        self, request: inference.CountTokensRequest, context: Any
    ) -> inference.CountTokensResponse:
        """Words for tokens."""
        return inference.CountTokensResponse(counts=[len(text.split()) for text in request.texts], context_tokens=4096)

    async def ListModels(  # noqa: N802 - the contract's name
        self, request: inference.ListModelsRequest, context: Any
    ) -> inference.ListModelsResponse:
        """Three, while the models are there."""
        if self.is_away:
            raise Unavailable("inference")
        return inference.ListModelsResponse(
            models=[inference.Model(name=name) for name in ("fake", "another", "larger")]
        )

    async def Embed(self, request: inference.EmbedRequest, context: Any) -> inference.EmbedResponse:  # noqa: N802 - the contract's name
        """Near when they share the word "calculat"."""
        near = [inference.Embedding(values=[float("calculat" in text), 1.0]) for text in request.texts]
        return inference.EmbedResponse(embeddings=near, model="fake", dimensions=2)


class FakeTools(tools_pb2_grpc.ToolsServiceServicer):
    """Counts how often the effect of each (run, step, call) is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int, int]] = Counter()
        self.arguments: dict[str, str] = {}
        self.progress: list[tools.ToolProgress] = []
        self.heard = asyncio.Event()

    async def ListTools(  # noqa: N802 - the contract's name
        self, request: tools.ListToolsRequest, context: Any
    ) -> tools.ListToolsResponse:
        """The built-in ones; http_get asks a person first."""
        policies = {"http_get": tools.TOOL_POLICY_ASK}
        listed = [
            tools.Tool(
                name=name,
                description="Computes.",
                parameters_json=PARAMETERS,
                enabled=True,
                policy=policies.get(name, tools.TOOL_POLICY_AUTO),
            )
            for name in BUILTIN_TOOLS
        ]
        return tools.ListToolsResponse(tools=listed)

    async def ExecuteTool(  # noqa: N802 - the contract's name
        self, request: tools.ExecuteToolRequest, context: Any
    ) -> tools.ExecuteToolResponse:
        """42, whatever is asked."""
        self.asked[request.run_id, request.step, request.call_index] += 1
        self.arguments[request.run_id] = request.arguments_json
        return tools.ExecuteToolResponse(status=tools.EXECUTION_STATUS_SUCCEEDED, result_json='{"result": 42}')

    async def ExecuteToolStream(  # noqa: N802 - the contract's name
        self, request: tools.ExecuteToolStreamRequest, context: Any
    ) -> AsyncIterator[tools.ExecuteToolStreamResponse]:
        """What `progress` holds, each until the test has `heard` of it, then the same."""
        for progress in self.progress:
            yield tools.ExecuteToolStreamResponse(progress=progress)
            await self.heard.wait()
        yield tools.ExecuteToolStreamResponse(result=await self.ExecuteTool(request.request, context))


class FakeRag(rag_pb2_grpc.RagServiceServicer):
    """Has one passage for questions about the "warranty"."""

    async def Search(self, request: rag.SearchRequest, context: Any) -> rag.SearchResponse:  # noqa: N802 - the contract's name
        """The passage, or nothing."""
        hit = rag.SearchHit(
            chunk_id="chunk_1",
            document_id="doc_1",
            title="handbook.md",
            text="The warranty is 3 years.",
            similarity=0.9,
        )
        return rag.SearchResponse(hits=[hit] if "warranty" in request.query else [])

    async def GetCollection(  # noqa: N802 - the contract's name
        self, request: rag.GetCollectionRequest, context: Any
    ) -> rag.GetCollectionResponse:
        """There is none."""
        raise NotFound("collection", request.id)


@dataclass(slots=True)
class FakeBackend:
    """The fakes; `target` is where they listen."""

    inference: FakeInference = field(default_factory=FakeInference)
    tools: FakeTools = field(default_factory=FakeTools)
    rag: FakeRag = field(default_factory=FakeRag)
    target: str = ""

    def registrations(self) -> list[Registration]:
        """How they are added to a server."""
        return [
            Registration(
                inference_pb2_grpc.add_InferenceServiceServicer_to_server,
                self.inference,
                "errand.inference.v1.InferenceService",
            ),
            Registration(tools_pb2_grpc.add_ToolsServiceServicer_to_server, self.tools, "errand.tools.v1.ToolsService"),
            Registration(rag_pb2_grpc.add_RagServiceServicer_to_server, self.rag, "errand.rag.v1.RagService"),
        ]


@asynccontextmanager
async def fake_backend(keys: TestKeys, backend: FakeBackend | None = None) -> AsyncIterator[FakeBackend]:
    """Serves these fakes, or fresh ones, until the end of the block."""
    backend = backend or FakeBackend()
    async with serving(backend.registrations(), keys) as target:
        backend.target = target
        yield backend
