"""The agent service over gRPC, a module a role."""

from errand_gateway.clients.agent.conversations import ConversationClient
from errand_gateway.clients.agent.definitions import DefinitionClient
from errand_gateway.clients.agent.examples import GrpcExampleBackend
from errand_gateway.clients.agent.memory import GrpcMemoryBackend
from errand_gateway.clients.agent.privacy import GrpcPrivacyBackend
from errand_gateway.clients.agent.prompts import GrpcPromptBackend
from errand_gateway.clients.agent.runs import RunClient
from errand_gateway.clients.agent.schedules import GrpcScheduleBackend
from errand_gateway.clients.agent.webhooks import GrpcWebhookBackend
from errand_gateway.clients.agent.workflows import GrpcWorkflowBackend


class GrpcAgentBackend(RunClient, ConversationClient, DefinitionClient):
    """AgentBackend on a channel."""


__all__ = [
    "GrpcAgentBackend",
    "GrpcExampleBackend",
    "GrpcMemoryBackend",
    "GrpcPrivacyBackend",
    "GrpcPromptBackend",
    "GrpcScheduleBackend",
    "GrpcWebhookBackend",
    "GrpcWorkflowBackend",
]
