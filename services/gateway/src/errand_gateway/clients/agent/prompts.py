"""Prompts."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import prompts_pb2 as pb
from errand.agent.v1.prompts_pb2_grpc import PromptServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain.prompts import Prompt, PromptAlias, PromptResult, PromptVariant

if TYPE_CHECKING:
    from errand.agent.v1.prompts_pb2_grpc import PromptServiceAsyncStub


class GrpcPromptBackend:
    """PromptBackend on a channel; `call_seconds` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: PromptServiceAsyncStub = PromptServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def put_prompt(self, prompt: Prompt) -> Prompt:
        """Stores a new version."""
        wanted = pb.Prompt(name=prompt.name, template=prompt.template, description=prompt.description)
        with translate_errors(DEPENDENCY):
            response = await self._stub.PutPrompt(pb.PutPromptRequest(prompt=wanted), timeout=self._timeout)
        return _prompt(response.prompt)

    async def get_prompt(self, name: str, version: int) -> Prompt:
        """One version; 0 takes the newest."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetPrompt(
                pb.GetPromptRequest(name=name, version=version), timeout=self._timeout
            )
        return _prompt(response.prompt)

    async def list_prompts(self) -> Sequence[Prompt]:
        """The newest versions by name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListPrompts(pb.ListPromptsRequest(), timeout=self._timeout)
        return [_prompt(item) for item in response.prompts]

    async def delete_prompt(self, name: str) -> None:
        """Removes a prompt with its aliases."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeletePrompt(pb.DeletePromptRequest(name=name), timeout=self._timeout)

    async def set_prompt_alias(self, name: str, alias: PromptAlias) -> Prompt:
        """Replaces an alias."""
        variants = [pb.PromptVariant(version=item.version, percent=item.percent) for item in alias.variants]
        request = pb.SetPromptAliasRequest(name=name, alias=pb.PromptAlias(name=alias.name, variants=variants))
        with translate_errors(DEPENDENCY):
            response = await self._stub.SetPromptAlias(request, timeout=self._timeout)
        return _prompt(response.prompt)

    async def prompt_results(self, name: str, since: datetime | None) -> Sequence[PromptResult]:
        """By version, the newest first."""
        request = pb.GetPromptResultsRequest(name=name, since=convert.timestamp(since))
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetPromptResults(request, timeout=self._timeout)
        return [_result(item) for item in response.results]


def _prompt(message: pb.Prompt) -> Prompt:
    return Prompt(
        name=message.name,
        template=message.template,
        description=message.description,
        version=message.version,
        created_at=convert.moment(message, "created_at"),
        aliases=[_alias(alias) for alias in message.aliases],
    )


def _alias(message: pb.PromptAlias) -> PromptAlias:
    return PromptAlias(message.name, [PromptVariant(item.version, item.percent) for item in message.variants])


def _result(message: pb.PromptResult) -> PromptResult:
    return PromptResult(
        version=message.version,
        runs=message.runs,
        answered=message.answered,
        helpful=message.helpful,
        unhelpful=message.unhelpful,
        tokens=message.tokens,
        cost_micros=message.cost_micros,
    )
