"""What the rules need from the outside: stores, runners and other services."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from errand_tools.domain.effects import Dispatch, Effect, EffectFilter
from errand_tools.domain.tools import CallContext, GrpcBinding, HttpBinding, JsonObject, Outcome, Tool, ToolKind

MAX_VERSIONS = 20


class Runner(Protocol):
    """Runs one tool."""

    async def run(self, arguments: JsonObject, context: CallContext) -> Any:
        """The result, any value JSON can hold. Raises ToolError or OutcomeUnknown."""


class HttpCaller(Protocol):
    """Calls an HTTP tool's endpoint."""

    async def call(
        self,
        binding: HttpBinding,
        arguments: JsonObject,
        context: CallContext,
        *,
        keyed: bool,
        headers: Mapping[str, str],
    ) -> Any:
        """The answer. `keyed` sends the effect's id as Idempotency-Key; `headers` carry credentials.

        Raises ToolError when the call surely failed, OutcomeUnknown when its answer was lost.
        """


class GrpcCaller(Protocol):
    """Calls methods of gRPC servers, which they tell by reflection."""

    async def describe(self, binding: GrpcBinding, *, headers: Mapping[str, str]) -> tuple[JsonObject, bytes]:
        """JSON Schema of the method's arguments, and the bytes that `call` needs. Raises ToolError."""

    async def call(
        self,
        binding: GrpcBinding,
        artifact: bytes,
        arguments: JsonObject,
        context: CallContext,
        *,
        headers: Mapping[str, str],
    ) -> Any:
        """The answer. Raises ToolError when the call surely failed, OutcomeUnknown when its answer was lost."""


class WasmEngine(Protocol):
    """Runs WebAssembly modules that nobody trusts."""

    async def compiled(self, module: bytes) -> bytes:
        """The binary form of a module in binary or text form. Raises ToolFailed for what cannot be a tool."""

    async def run(self, binary: bytes, sha256: str, memory_mib: int, arguments: JsonObject, seconds: float) -> Any:
        """What the module makes of the arguments. Raises ToolFailed, ToolTimedOut."""


class ToolCaller(Protocol):
    """Calls registered tools of one kind."""

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The answer, any value JSON can hold. Raises ToolError, OutcomeUnknown."""


class WebFetcher(Protocol):
    """Fetches pages of the hosts the operator allows."""

    async def get(self, url: str) -> JsonObject:
        """{"status": …, "body": …}. Raises ToolError."""


class CodeSandbox(Protocol):
    """Runs Python code that nobody trusts."""

    async def run(self, code: str, timeout_seconds: float, inputs: Mapping[str, Any] = ...) -> JsonObject:
        """{"result": …, "stdout": …}; `inputs` are variables of the code. Raises ToolError."""

    async def check(self, code: str) -> None:
        """Reads the code and runs nothing of it. Raises ToolFailed for code that cannot be read."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of the tenant's documents."""

    title: str
    text: str


class KnowledgeBase(Protocol):
    """The tenant's documents."""

    async def search(self, query: str, collection_ids: tuple[str, ...], limit: int) -> list[Passage]:
        """Passages, best first. Raises ErrandError when the service is away."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: at most `size` rows after the row that `after` names."""

    size: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which tools are listed: with all of `words` (in lower case) in name or description, of a kind, of a server."""

    enabled_only: bool = False
    words: tuple[str, ...] = ()
    kind: ToolKind | None = None
    mcp_server: str = ""

    def takes(self, tool: Tool) -> bool:
        """Whether the tool is one of them."""
        text = f"{tool.name} {tool.description}".lower()
        return (
            (not self.enabled_only or (tool.enabled and tool.offer is None))
            and all(word in text for word in self.words)
            and self.kind in (None, tool.kind)
            and self.mcp_server in ("", tool.mcp.server if tool.mcp else "")
        )


EVERY_TOOL = ToolFilter()


class ToolStore(ABC):
    """Keeps a tenant's registered tools, their versions, and which built-in ones are turned off."""

    @abstractmethod
    async def add(self, tenant_id: str, tool: Tool, *, most: int, artifact: bytes = b"") -> Tool:
        """The tool as stored, with `artifact` under its SHA-256.

        Raises AlreadyExists for a known name, Conflict when the tenant has `most`.
        """

    @abstractmethod
    async def update(self, tenant_id: str, tool: Tool, *, expected_version: int, artifact: bytes = b"") -> Tool:
        """The tool as stored; a change makes a new version (see next_version).

        Raises NotFound, Conflict when the version is not the expected one (0 is any).
        """

    @abstractmethod
    async def put_all(
        self, tenant_id: str, tools: Sequence[Tool], *, most: int, replace: bool, dry_run: bool
    ) -> frozenset[str]:
        """Adds the tools in one go; the names that were taken and stay as they are.

        `replace` makes a new version of what has changed, and leaves each as enabled as it was. Raises Conflict
        over `most`.
        """

    @abstractmethod
    async def get(self, tenant_id: str, name: str) -> Tool | None:
        """The registered tool, or None."""

    @abstractmethod
    async def artifact(self, tenant_id: str, sha256: str) -> bytes | None:
        """The bytes that a tool names, or None."""

    @abstractmethod
    async def versions(self, tenant_id: str, name: str) -> list[Tool]:
        """The registered tool as it was and is, the newest first, at most MAX_VERSIONS."""

    @abstractmethod
    async def list(self, tenant_id: str, page: Page, only: ToolFilter) -> list[Tool]:
        """Registered tools by name, after the name `page.after`."""

    @abstractmethod
    async def delete(self, tenant_id: str, name: str) -> bool:
        """Whether there was one."""

    @abstractmethod
    async def set_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> bool:
        """Turns a registered tool on or off; whether there was one."""

    @abstractmethod
    async def disabled_builtins(self, tenant_id: str) -> frozenset[str]:
        """Names of the built-in tools the tenant turned off."""

    @abstractmethod
    async def set_builtin_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> None:
        """Turns a built-in tool on or off for the tenant."""


class EffectStore(ABC):
    """The ledger: what was sent, and what came of it."""

    @property
    @abstractmethod
    def exclusive(self) -> bool:
        """Whether no other process writes to it, so that a lost dispatch is known at once."""

    @abstractmethod
    async def begin(self, tenant_id: str, dispatch: Dispatch, now: datetime) -> Effect | None:
        """Stores the dispatch before it is sent. None when it is new, else the stored effect."""

    @abstractmethod
    async def take_over(
        self, tenant_id: str, effect: Effect, *, owner: str, now: datetime, lease_until: datetime
    ) -> bool:
        """Claims an effect whose outcome is not known; False when another was faster."""

    @abstractmethod
    async def complete(self, tenant_id: str, effect_id: str, outcome: Outcome, *, owner: str, now: datetime) -> bool:
        """Stores the outcome of an effect that `owner` holds; False when it is no longer his."""

    @abstractmethod
    async def leave_unsettled(self, tenant_id: str, effect_id: str, *, owner: str, now: datetime) -> bool:
        """Marks an effect that `owner` holds for a person to settle; False when it is not his."""

    @abstractmethod
    async def settle(self, tenant_id: str, effect_id: str, outcome: Outcome, now: datetime) -> Effect | None:
        """Stores a person's result for an unsettled effect; None when it is not unsettled."""

    @abstractmethod
    async def get(self, tenant_id: str, effect_id: str) -> Effect | None:
        """One effect, or None."""

    @abstractmethod
    async def list(self, tenant_id: str, page: Page, only: EffectFilter) -> list[Effect]:
        """Effects, newest first, after the cursor `page.after` (see effects.cursor_of)."""

    @abstractmethod
    async def purge(self, tenant_id: str, *, completed_before: datetime, most: int) -> int:
        """Removes old completed effects, at most `most`; how many."""
