"""All services behind the gateway, faked and served over real gRPC."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from errand.agent.v1.agent_pb2_grpc import add_AgentServiceServicer_to_server
from errand.agent.v1.examples_pb2_grpc import add_ExampleServiceServicer_to_server
from errand.agent.v1.memory_pb2_grpc import add_MemoryServiceServicer_to_server
from errand.agent.v1.privacy_pb2_grpc import add_PrivacyServiceServicer_to_server
from errand.agent.v1.prompts_pb2_grpc import add_PromptServiceServicer_to_server
from errand.agent.v1.schedules_pb2_grpc import add_ScheduleServiceServicer_to_server
from errand.agent.v1.webhooks_pb2_grpc import add_WebhookServiceServicer_to_server
from errand.agent.v1.workflows_pb2_grpc import add_WorkflowServiceServicer_to_server
from errand.inference.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server
from errand.rag.v1.rag_pb2_grpc import add_RagServiceServicer_to_server
from errand.tools.v1.tools_pb2_grpc import add_ToolsServiceServicer_to_server
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys
from errand_common.testing.rpc import serving

from errand_gateway.testing.agent import FakeAgent
from errand_gateway.testing.examples import FakeExamples
from errand_gateway.testing.inference import FakeInference
from errand_gateway.testing.memory import FakeMemory
from errand_gateway.testing.privacy import FakePrivacy
from errand_gateway.testing.prompts import FakePrompts
from errand_gateway.testing.rag import FakeRag
from errand_gateway.testing.schedules import FakeSchedules
from errand_gateway.testing.tools import FakeTools
from errand_gateway.testing.webhooks import FakeWebhooks
from errand_gateway.testing.workflows import FakeWorkflows


@dataclass(slots=True)
class FakeBackend:
    """The fakes; `target` is where they listen."""

    agent: FakeAgent = field(default_factory=FakeAgent)
    workflows: FakeWorkflows = field(default_factory=FakeWorkflows)
    memory: FakeMemory = field(default_factory=FakeMemory)
    examples: FakeExamples = field(default_factory=FakeExamples)
    webhooks: FakeWebhooks = field(default_factory=FakeWebhooks)
    prompts: FakePrompts = field(default_factory=FakePrompts)
    schedules: FakeSchedules = field(default_factory=FakeSchedules)
    rag: FakeRag = field(default_factory=FakeRag)
    tools: FakeTools = field(default_factory=FakeTools)
    inference: FakeInference = field(default_factory=FakeInference)
    privacy: FakePrivacy = field(init=False)
    target: str = ""

    def __post_init__(self) -> None:
        self.privacy = FakePrivacy(self.agent)

    def reset(self) -> None:
        """Forgets failures that were asked for and calls that were made; rows stay."""
        self.agent.fail_with = self.agent.break_with = None
        self.agent.linger_seconds = 0.0
        self.agent.requests.clear()
        self.agent.was_cancelled.clear()
        self.inference.fail_with = self.privacy.erase_fails_with = None
        self.inference.requests.clear()
        self.rag.largest_piece = self.rag.pieces = 0

    def registrations(self) -> list[Registration]:
        """How the fakes are added to a server."""
        return [
            Registration(add_AgentServiceServicer_to_server, self.agent, "errand.agent.v1.AgentService"),
            Registration(add_WorkflowServiceServicer_to_server, self.workflows, "errand.agent.v1.WorkflowService"),
            Registration(add_MemoryServiceServicer_to_server, self.memory, "errand.agent.v1.MemoryService"),
            Registration(add_PrivacyServiceServicer_to_server, self.privacy, "errand.agent.v1.PrivacyService"),
            Registration(add_ScheduleServiceServicer_to_server, self.schedules, "errand.agent.v1.ScheduleService"),
            Registration(add_PromptServiceServicer_to_server, self.prompts, "errand.agent.v1.PromptService"),
            Registration(add_WebhookServiceServicer_to_server, self.webhooks, "errand.agent.v1.WebhookService"),
            Registration(add_ExampleServiceServicer_to_server, self.examples, "errand.agent.v1.ExampleService"),
            Registration(add_RagServiceServicer_to_server, self.rag, "errand.rag.v1.RagService"),
            Registration(add_ToolsServiceServicer_to_server, self.tools, "errand.tools.v1.ToolsService"),
            Registration(
                add_InferenceServiceServicer_to_server,
                self.inference,
                "errand.inference.v1.InferenceService",
            ),
        ]


@contextlib.asynccontextmanager
async def fake_backend(keys: TestKeys) -> AsyncIterator[FakeBackend]:
    """Serves the fakes until the end of the block."""
    backend = FakeBackend()
    async with serving(backend.registrations(), keys) as target:
        backend.target = target
        yield backend
