"""Registering and changing tools whose kind needs more than its own words: a server's, or a module's."""

import hashlib
from dataclasses import dataclass, replace
from keyword import iskeyword

from errand_common.errors import InvalidArgument, Unavailable
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.ports import CodeSandbox, GrpcCaller, WasmEngine
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.schema import parse_parameters
from errand_tools.domain.secrets import NO_CREDENTIALS, SecretBook
from errand_tools.domain.tools import (
    GrpcBinding,
    PythonBinding,
    ServiceDown,
    Tool,
    ToolError,
    WasmBinding,
    canonical_json,
)

MAX_COMPUTING_MS = 10_000


@dataclass(frozen=True, slots=True)
class Registrar:
    """Completes a tool as its kind asks for, and hands it to the registry."""

    registry: ToolRegistry
    secrets: SecretBook
    grpc: GrpcCaller
    wasm: WasmEngine
    sandbox: CodeSandbox

    async def register(self, principal: Principal, tool: Tool, module: bytes) -> Tool:
        """Adds a tool. Raises what the registry raises, and Unavailable when a tool's server is away."""
        require_editor(principal)
        ready, artifact = await self._completed(principal.tenant_id, tool, module)
        return await self.registry.register(principal, ready, artifact)

    async def update(self, principal: Principal, tool: Tool, module: bytes, *, expected_version: int) -> Tool:
        """Changes a tool; a module that is left out stays, a gRPC server is asked again. Raises as `register`."""
        require_editor(principal)
        known = await self.registry.registered(principal.tenant_id, tool.name)
        if tool.wasm and known.wasm and not module:
            ready, artifact = replace(tool, wasm=replace(tool.wasm, artifact=known.wasm.artifact)), b""
        else:
            ready, artifact = await self._completed(principal.tenant_id, tool, module)
        return await self.registry.update(principal, ready, artifact, expected_version=expected_version)

    async def _completed(self, tenant_id: str, tool: Tool, module: bytes) -> tuple[Tool, bytes]:
        _check_time(tool)
        if tool.grpc is not None:
            return await self._described(tenant_id, tool, tool.grpc)
        if tool.wasm is not None:
            return await self._compiled(tool, tool.wasm, module)
        if tool.python is not None:
            _check_variables(tool)
            await self._read(tool.python)
        return tool, b""

    async def _described(self, tenant_id: str, tool: Tool, binding: GrpcBinding) -> tuple[Tool, bytes]:
        if binding.auth is not None and binding.plaintext:
            raise InvalidArgument(
                "a secret is not sent without TLS; leave plaintext or auth out",
                field="tool.grpc.auth",
                rule="plaintext",
            )
        if binding.auth is not None:
            await self.secrets.check(tenant_id, binding.auth, binding.url, field="tool.grpc.auth")
        used = NO_CREDENTIALS
        try:
            used = await self.secrets.credentials(tenant_id, binding.auth, binding.url)
            parameters, artifact = await self.grpc.describe(binding, headers=used.headers)
        except ServiceDown as error:
            raise Unavailable("grpc server", f"The server at {binding.target}: {used.scrub(error.message)}") from None
        except ToolError as error:
            raise InvalidArgument(used.scrub(error.message), field="tool.grpc.method", rule="reflection") from None
        checked = parse_parameters(canonical_json(parameters))
        pinned = replace(binding, artifact=hashlib.sha256(artifact).hexdigest())
        return replace(tool, grpc=pinned, parameters=checked), artifact

    async def _compiled(self, tool: Tool, binding: WasmBinding, module: bytes) -> tuple[Tool, bytes]:
        if not module:
            raise InvalidArgument("module is required", field="tool.wasm.module", rule="required")
        try:
            binary = await self.wasm.compiled(module)
        except ToolError as error:
            raise InvalidArgument(error.message, field="tool.wasm.module", rule="module") from None
        return replace(tool, wasm=replace(binding, artifact=hashlib.sha256(binary).hexdigest())), binary

    async def _read(self, binding: PythonBinding) -> None:
        try:
            await self.sandbox.check(binding.code)
        except ToolError as error:
            raise InvalidArgument(error.message, field="tool.python.code", rule="syntax") from None


def _check_time(tool: Tool) -> None:
    if (tool.wasm or tool.python) and tool.timeout_ms > MAX_COMPUTING_MS:
        raise InvalidArgument(
            f"timeout_ms is at most {MAX_COMPUTING_MS} for a tool that computes here: all tenants share the sandboxes",
            field="tool.timeout_ms",
            rule="lte",
        )


def _check_variables(tool: Tool) -> None:
    for name in tool.parameters.get("properties", {}):
        if not name.isidentifier() or iskeyword(name):
            raise InvalidArgument(
                f"the argument '{name}' is a variable of the code and cannot be named so",
                field="tool.parameters_json",
                rule="identifier",
            )
