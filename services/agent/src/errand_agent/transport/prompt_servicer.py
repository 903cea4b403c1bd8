"""PromptService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import Any

from errand.agent.v1 import prompts_pb2 as pb
from errand.agent.v1 import prompts_pb2_grpc

from errand_agent.domain.prompts import Prompt, Variant
from errand_agent.transport.convert import timestamp
from errand_agent.use_cases.prompts import PromptUseCases


class PromptServicer(prompts_pb2_grpc.PromptServiceServicer):
    """Serves prompts."""

    def __init__(self, prompts: PromptUseCases) -> None:
        self._prompts = prompts

    async def PutPrompt(self, request: pb.PutPromptRequest, context: Any) -> pb.PutPromptResponse:
        """A new version."""
        given = request.prompt
        stored = await self._prompts.put(Prompt(given.name, given.template, given.description))
        return pb.PutPromptResponse(prompt=_message(stored))

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Any) -> pb.GetPromptResponse:
        """One version."""
        return pb.GetPromptResponse(prompt=_message(await self._prompts.get(request.name, request.version)))

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Any) -> pb.ListPromptsResponse:
        """By name."""
        return pb.ListPromptsResponse(prompts=[_message(prompt) for prompt in await self._prompts.all()])

    async def DeletePrompt(self, request: pb.DeletePromptRequest, context: Any) -> pb.DeletePromptResponse:
        """Removes one."""
        await self._prompts.delete(request.name)
        return pb.DeletePromptResponse()

    async def SetPromptAlias(self, request: pb.SetPromptAliasRequest, context: Any) -> pb.SetPromptAliasResponse:
        """Replaces an alias."""
        variants = [Variant(variant.version, variant.percent) for variant in request.alias.variants]
        changed = await self._prompts.set_alias(request.name, request.alias.name, variants)
        return pb.SetPromptAliasResponse(prompt=_message(changed))

    async def GetPromptResults(self, request: pb.GetPromptResultsRequest, context: Any) -> pb.GetPromptResultsResponse:
        """By version."""
        since = request.since.ToDatetime(UTC) if request.HasField("since") else None
        results = await self._prompts.results(request.name, since)
        return pb.GetPromptResultsResponse(results=[pb.PromptResult(**asdict(result)) for result in results])


def _message(prompt: Prompt) -> pb.Prompt:
    aliases = [
        pb.PromptAlias(name=name, variants=[pb.PromptVariant(**asdict(variant)) for variant in variants])
        for name, variants in (prompt.aliases or {}).items()
    ]
    return pb.Prompt(
        name=prompt.name,
        template=prompt.template,
        description=prompt.description,
        version=prompt.version,
        created_at=timestamp(prompt.created_at) if prompt.created_at else None,
        aliases=aliases,
    )
