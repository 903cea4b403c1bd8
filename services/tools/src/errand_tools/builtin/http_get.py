"""Fetches a page of a host that the operator allows."""

from dataclasses import dataclass

from errand_tools.builtin.base import BuiltinTool, Services, one_text
from errand_tools.domain.ports import Runner, WebFetcher
from errand_tools.domain.tools import CallContext, JsonObject


@dataclass(frozen=True, slots=True)
class _Get:
    web: WebFetcher

    async def run(self, arguments: JsonObject, context: CallContext) -> JsonObject:
        return await self.web.get(arguments["url"].strip())


def _build(services: Services) -> Runner:
    return _Get(services.web)


TOOL = BuiltinTool(
    name="http_get",
    description="Fetch a web page or URL with an HTTP GET request.",
    parameters=one_text("url", "The address"),
    build=_build,
)
