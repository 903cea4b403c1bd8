"""How each kind of registered tool is called."""

from dataclasses import dataclass
from typing import Any, Protocol

from errand_tools.domain.ports import CodeSandbox, GrpcCaller, HttpCaller, WasmEngine
from errand_tools.domain.secrets import SecretBook
from errand_tools.domain.tools import (
    CallContext,
    JsonObject,
    SideEffect,
    Tool,
    ToolDenied,
)


class Artifacts(Protocol):
    """Where the bytes that tools name are found."""

    async def artifact(self, tenant_id: str, sha256: str) -> bytes | None:
        """The bytes, or None."""


@dataclass(frozen=True, slots=True)
class HttpTools:
    """HTTP tools."""

    http: HttpCaller
    secrets: SecretBook

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The answer, in which the credentials that went out are not to be read."""
        binding = tool.http
        if binding is None:
            raise ToolDenied("The tool has no endpoint.")
        used = await self.secrets.credentials(tenant_id, binding.auth, binding.url_template)
        keyed = tool.side_effect is SideEffect.IDEMPOTENT
        with used.scrubbed_errors():
            return used.scrub(await self.http.call(binding, arguments, context, keyed=keyed, headers=used.headers))


@dataclass(frozen=True, slots=True)
class GrpcTools:
    """Methods of gRPC servers."""

    grpc: GrpcCaller
    secrets: SecretBook
    artifacts: Artifacts

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The answer, in which the credentials that went out are not to be read."""
        binding = tool.grpc
        artifact = await self.artifacts.artifact(tenant_id, tool.artifact) if binding else None
        if binding is None or artifact is None:
            raise ToolDenied("The tool's descriptors are gone; an editor must register it again.")
        used = await self.secrets.credentials(tenant_id, binding.auth, binding.url)
        with used.scrubbed_errors():
            return used.scrub(await self.grpc.call(binding, artifact, arguments, context, headers=used.headers))


@dataclass(frozen=True, slots=True)
class WasmTools:
    """WebAssembly modules."""

    engine: WasmEngine
    artifacts: Artifacts

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The module's answer."""
        binding = tool.wasm
        binary = await self.artifacts.artifact(tenant_id, tool.artifact) if binding else None
        if binding is None or binary is None:
            raise ToolDenied("The tool's module is gone; an editor must register it again.")
        seconds = context.timeout_seconds
        return await self.engine.run(binary, binding.artifact, binding.memory_mib, arguments, seconds)


@dataclass(frozen=True, slots=True)
class PythonTools:
    """Python code in the sandbox."""

    sandbox: CodeSandbox

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The last expression's value and what was printed."""
        if tool.python is None:
            raise ToolDenied("The tool has no code.")
        # An argument that was left out is None, so that the code can ask for it.
        inputs = dict.fromkeys(tool.parameters.get("properties", {})) | arguments
        return await self.sandbox.run(tool.python.code, context.timeout_seconds, inputs)
