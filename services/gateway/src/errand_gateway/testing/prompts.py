# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's prompts."""

from typing import Any

from errand.agent.v1 import prompts_pb2 as pb
from errand.agent.v1 import prompts_pb2_grpc
from errand_common.errors import InvalidArgument, NotFound

from errand_gateway.testing.store import TenantStore


class FakePrompts(prompts_pb2_grpc.PromptServiceServicer):
    """Keeps the newest version in memory; every version had one run."""

    def __init__(self) -> None:
        self._prompts: TenantStore[pb.Prompt] = TenantStore("prompt")

    async def PutPrompt(self, request: pb.PutPromptRequest, context: Any) -> pb.PutPromptResponse:
        """A new version; an open brace alone is no template."""
        row = pb.Prompt()
        row.CopyFrom(request.prompt)
        if row.template.count("{{") != row.template.count("}}"):
            raise InvalidArgument("prompt.template: the template is not one", field="prompt.template")
        try:
            before = self._prompts.get(row.name)
            row.version = before.version + 1
            row.aliases.extend(before.aliases)
        except NotFound:
            row.version = 1
        return pb.PutPromptResponse(prompt=self._prompts.put(row.name, row))

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Any) -> pb.GetPromptResponse:
        """The newest version alone is there."""
        row = self._prompts.get(request.name)
        if request.version not in (0, row.version):
            raise NotFound("prompt", f"{request.name}:{request.version}")
        return pb.GetPromptResponse(prompt=row)

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Any) -> pb.ListPromptsResponse:
        """By name."""
        by_name = {row.name: row for row in self._prompts.all()}
        return pb.ListPromptsResponse(prompts=[by_name[name] for name in sorted(by_name)])

    async def DeletePrompt(self, request: pb.DeletePromptRequest, context: Any) -> pb.DeletePromptResponse:
        """Removes one."""
        self._prompts.pop(request.name)
        return pb.DeletePromptResponse()

    async def SetPromptAlias(self, request: pb.SetPromptAliasRequest, context: Any) -> pb.SetPromptAliasResponse:
        """Replaces an alias."""
        row = self._prompts.get(request.name)
        if sum(variant.percent for variant in request.alias.variants) != 100:
            raise InvalidArgument("alias.variants: the shares make no 100", field="alias.variants")
        others = [alias for alias in row.aliases if alias.name != request.alias.name]
        del row.aliases[:]
        row.aliases.extend([*others, request.alias])
        return pb.SetPromptAliasResponse(prompt=row)

    async def GetPromptResults(self, request: pb.GetPromptResultsRequest, context: Any) -> pb.GetPromptResultsResponse:
        """One run each."""
        row = self._prompts.get(request.name)
        versions = range(row.version, 0, -1)
        return pb.GetPromptResultsResponse(
            results=[pb.PromptResult(version=version, runs=1, answered=1, tokens=15) for version in versions]
        )
