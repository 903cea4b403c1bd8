"""Resources and prompts of an MCP server as tools that read: agents know nothing but tools."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import mcp_types as types
from mcp import Client

from errand_tools.domain.mcp import RemoteTool
from errand_tools.domain.tools import JsonObject, ToolFailed

_MOST: Final = 100

Ask = Callable[[Any, Any], Awaitable[Any]]
"""Sends a request and gives its result, of the type named."""


def _schema(**properties: JsonObject) -> JsonObject:
    required = [name for name in properties if name != "arguments"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


# Constant words: a server that adds a resource does not change the tool that was approved.
_LIST_RESOURCES: Final = RemoteTool("list_resources", "List the documents and data that can be read here.", _schema())
_READ_RESOURCE: Final = RemoteTool(
    "read_resource",
    "Read one of the documents or data that list_resources names.",
    _schema(uri={"type": "string", "description": "The resource's uri", "maxLength": 2048}),
)
_LIST_PROMPTS: Final = RemoteTool("list_prompts", "List the prepared instructions offered here.", _schema())
_GET_PROMPT: Final = RemoteTool(
    "get_prompt",
    "Get one of the prepared instructions that list_prompts names.",
    _schema(
        name={"type": "string", "description": "The prompt's name", "maxLength": 256},
        arguments={
            "type": "object",
            "description": "Values for the prompt's own arguments",
            "additionalProperties": {"type": "string"},
        },
    ),
)


async def reading_tools(client: Client) -> Mapping[str, RemoteTool]:
    """The tools for what the server has; none for what it has not."""
    found: list[RemoteTool] = []
    offers = client.server_capabilities
    if offers.resources is not None and (
        (await client.list_resources(cache_mode="bypass")).resources
        or (await client.list_resource_templates(cache_mode="bypass")).resource_templates
    ):
        found += [_LIST_RESOURCES, _READ_RESOURCE]
    if offers.prompts is not None and (await client.list_prompts(cache_mode="bypass")).prompts:
        found += [_LIST_PROMPTS, _GET_PROMPT]
    return {tool.name: tool for tool in found}


async def read(tool: str, arguments: JsonObject, ask: Ask) -> JsonObject:
    """What one of these tools gives. Raises ToolFailed for a tool that is none of them."""
    reader = _READERS.get(tool)
    if reader is None:
        raise ToolFailed("The tool's server does not offer it any more.")
    return await reader(arguments, ask)


async def _resources(_: JsonObject, ask: Ask) -> JsonObject:
    listed = await ask(types.ListResourcesRequest(), types.ListResourcesResult)
    templates = await ask(types.ListResourceTemplatesRequest(), types.ListResourceTemplatesResult)
    return {
        "resources": [
            {"uri": one.uri, "name": one.name, "description": one.description or ""} for one in listed.resources[:_MOST]
        ],
        "templates": [
            {"uri": one.uri_template, "name": one.name, "description": one.description or ""}
            for one in templates.resource_templates[:_MOST]
        ],
    }


async def _resource(arguments: JsonObject, ask: Ask) -> JsonObject:
    params = types.ReadResourceRequestParams(uri=arguments["uri"])
    answer = await ask(types.ReadResourceRequest(params=params), types.ReadResourceResult)
    texts = [
        one.text if isinstance(one, types.TextResourceContents) else f"({one.mime_type or 'bytes'}, which is no text)"
        for one in answer.contents
    ]
    return {"text": "\n".join(texts)}


async def _prompts(_: JsonObject, ask: Ask) -> JsonObject:
    listed = await ask(types.ListPromptsRequest(), types.ListPromptsResult)
    return {
        "prompts": [
            {
                "name": one.name,
                "description": one.description or "",
                "arguments": [
                    {"name": argument.name, "required": bool(argument.required)} for argument in one.arguments or ()
                ],
            }
            for one in listed.prompts[:_MOST]
        ]
    }


async def _prompt(arguments: JsonObject, ask: Ask) -> JsonObject:
    params = types.GetPromptRequestParams(name=arguments["name"], arguments=arguments.get("arguments"))
    answer = await ask(types.GetPromptRequest(params=params), types.GetPromptResult)
    return {"messages": [{"role": one.role, "text": told(one.content)} for one in answer.messages[:_MOST]]}


def told(block: Any) -> str:
    """The text of a block of content, or what it is instead."""
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.EmbeddedResource) and isinstance(block.resource, types.TextResourceContents):
        return block.resource.text
    return f"({block.type}, which is no text)"


_READERS: Final[Mapping[str, Callable[[JsonObject, Ask], Awaitable[JsonObject]]]] = MappingProxyType(
    {
        _LIST_RESOURCES.name: _resources,
        _READ_RESOURCE.name: _resource,
        _LIST_PROMPTS.name: _prompts,
        _GET_PROMPT.name: _prompt,
    }
)
