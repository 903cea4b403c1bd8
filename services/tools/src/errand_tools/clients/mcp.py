"""MCP servers over the official SDK: one connection per tenant and server, made anew when it breaks."""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
import mcp_types as types
from errand_common.errors import ErrandError
from errand_common.http import Reach
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from errand_tools.clients.guarded_httpx2 import GuardedTransport
from errand_tools.clients.mcp_reading import read, reading_tools, told
from errand_tools.domain.mcp import Remote, RemoteTool, offer_of
from errand_tools.domain.progress import Progress
from errand_tools.domain.tools import (
    CallContext,
    ExecutionStatus,
    JsonObject,
    OutcomeUnknown,
    ServiceDown,
    ToolDenied,
    ToolFailed,
)

MAX_TOOLS = 200
_MAX_PAGES = 20
_MAX_CONNECTIONS = 64
_IDLE_SECONDS = 300.0
# A server that changes its tools without saying so is noticed after this.
_LISTED_SECONDS = 60.0
_CONNECT_SECONDS = 15.0
_CLOSE_SECONDS = 5.0
# Answers of a server that surely did not run the tool.
_NOT_RUN = frozenset({types.PARSE_ERROR, types.INVALID_REQUEST, types.METHOD_NOT_FOUND, types.INVALID_PARAMS})
_BROKEN = (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, httpx2.HTTPError)


class SdkMcpConnections:
    """Connections to tenants' MCP servers. `stdio` maps the names the operator offers to command lines."""

    def __init__(self, reach: Reach, stdio: Mapping[str, Sequence[str]]) -> None:
        self._reach = reach
        self._stdio = dict(stdio)
        self._open: OrderedDict[Remote, _Connection] = OrderedDict()
        # Those that calls still go on over, and that no new call gets.
        self._retired: set[_Connection] = set()

    async def close(self) -> None:
        """Ends all connections and the processes behind them."""
        while self._open:
            _, connection = self._open.popitem()
            await connection.close()
        for connection in list(self._retired):
            await connection.close()

    def stdio_servers(self) -> frozenset[str]:
        """Names of the stdio servers that the operator offers."""
        return frozenset(self._stdio)

    async def tools(self, remote: Remote, timeout_seconds: float) -> Sequence[RemoteTool]:
        """What the server lists now. Raises ToolError."""
        connection = await self._connection(remote)
        try:
            async with asyncio.timeout(timeout_seconds):
                return list((await connection.list_tools()).values())
        except TimeoutError:
            await self._drop(remote, connection)
            raise ServiceDown("it did not answer in time.") from None
        except (MCPError, *_BROKEN, ValueError, RuntimeError):
            await self._drop(remote, connection)
            raise connection.denied or ServiceDown("its answer cannot be read, or it went away.") from None

    async def call(
        self, remote: Remote, tool: str, pinned_hash: str, arguments: JsonObject, context: CallContext
    ) -> Any:
        """The tool's answer. Raises ToolDenied when the server lists another tool than the pinned one by now."""
        connection = await self._pinned(remote, tool, pinned_hash)
        try:
            result = await connection.call(tool, arguments, context)
        except asyncio.CancelledError:
            self._retire(remote, connection)
            raise
        except MCPError as error:
            raise await self._refused(remote, connection, error) from None
        except (*_BROKEN, ValueError, RuntimeError):
            await self._drop(remote, connection)
            raise OutcomeUnknown(
                "The tool's server went away or its answer cannot be read.", status=ExecutionStatus.FAILED
            ) from None
        return result

    async def _pinned(self, remote: Remote, tool: str, pinned_hash: str) -> "_Connection":
        connection = await self._connection(remote)
        try:
            listed = await connection.listed()
        except (MCPError, *_BROKEN, ValueError, RuntimeError):
            # Nothing was sent yet, so a new connection may try.
            await self._drop(remote, connection)
            connection = await self._connection(remote)
            try:
                listed = await connection.listed()
            except (MCPError, *_BROKEN, ValueError, RuntimeError):
                await self._drop(remote, connection)
                raise connection.denied or ServiceDown("The tool's server does not answer.") from None
        if _hash(listed.get(tool)) != pinned_hash:
            raise ToolDenied("The tool changed at its server since it was approved; an administrator must look at it.")
        return connection

    async def _refused(self, remote: Remote, connection: "_Connection", error: MCPError) -> Exception:
        if error.code in _NOT_RUN:
            return ToolFailed(f"The tool's server refused the call: {error.message[:300].rstrip('.')}.")
        if error.code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT):
            await self._drop(remote, connection)
        timed_out = error.code == types.REQUEST_TIMEOUT
        return OutcomeUnknown(
            "The tool's server did not answer in time." if timed_out else "The tool's server failed or went away.",
            status=ExecutionStatus.TIMED_OUT if timed_out else ExecutionStatus.FAILED,
        )

    async def _connection(self, remote: Remote) -> "_Connection":
        await self._close_idle()
        connection = self._open.get(remote)
        if connection is None or connection.ended:
            connection = self._open[remote] = _Connection(self._transport(remote))
            if len(self._open) > _MAX_CONNECTIONS:
                _, oldest = self._open.popitem(last=False)
                await oldest.close()
        self._open.move_to_end(remote)
        connection.used_at = time.monotonic()
        try:
            await connection.ready()
        except ServiceDown:
            await self._drop(remote, connection)
            raise connection.denied or ServiceDown("The server cannot be reached or does not speak MCP.") from None
        return connection

    async def _close_idle(self) -> None:
        before = time.monotonic() - _IDLE_SECONDS
        for remote, connection in [item for item in self._open.items() if item[1].used_at < before]:
            await self._drop(remote, connection)

    async def _drop(self, remote: Remote, connection: "_Connection") -> None:
        if self._open.get(remote) is connection:
            del self._open[remote]
        await connection.close()

    def _retire(self, remote: Remote, connection: "_Connection") -> None:
        """After a call that was given up: over HTTP what its server still says to it could end a later call too."""
        if remote.server.stdio:
            return
        if self._open.get(remote) is connection:
            del self._open[remote]
        self._retired.add(connection)
        connection.retire(self._retired.discard)

    def _transport(self, remote: Remote) -> "_Transport":
        if remote.server.stdio:
            command = self._stdio.get(remote.server.stdio)
            if not command:
                raise ToolDenied("The operator does not offer the tool's server any more.")
            return _Transport(None, _stdio(command))
        guard = GuardedTransport(self._reach)
        return _Transport(guard, _http(remote, guard))


class _Transport:
    """How one connection reaches its server."""

    def __init__(self, guard: GuardedTransport | None, streams: AbstractAsyncContextManager[Any]) -> None:
        self.guard = guard
        self.streams = streams


@asynccontextmanager
async def _stdio(command: Sequence[str]) -> AsyncIterator[Any]:
    """Runs the command; what it says on stderr goes nowhere, for it may be anything."""
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230  a device that never blocks
        parameters = StdioServerParameters(command=command[0], args=list(command[1:]))
        async with stdio_client(parameters, errlog=nowhere) as streams:
            yield streams


@asynccontextmanager
async def _http(remote: Remote, guard: GuardedTransport) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(300, connect=5)
    async with (
        httpx2.AsyncClient(transport=guard, headers=dict(remote.headers), timeout=timeout, trust_env=False) as client,
        streamable_http_client(remote.server.url, http_client=client) as streams,
    ):
        yield streams


class _Connection:
    """One session, entered and left by a task of its own, as the SDK's cancel scopes ask for."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport
        self._client: Client | None = None
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tools: dict[str, RemoteTool] = {}
        self._own: frozenset[str] = frozenset()
        self._listed_at = float("-inf")
        self.used_at = time.monotonic()
        self._calls = 0
        self._is_retired = False
        self._task = asyncio.create_task(self._live())

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._task.done()

    @property
    def denied(self) -> ToolDenied | None:
        """Why the guard let nothing out."""
        return self._transport.guard.denied if self._transport.guard else None

    async def ready(self) -> None:
        """Waits for the handshake. Raises ServiceDown."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise ServiceDown("no handshake in time") from None

    async def close(self) -> None:
        """Ends the session and waits for that, a bounded time."""
        self._stop.set()
        if not self._ready.done():
            # A handshake hears of nothing but its server.
            self._task.cancel()
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(self._task), _CLOSE_SECONDS)
        if not self._task.done():
            self._task.cancel()

    def retire(self, ended: Callable[["_Connection"], None]) -> None:
        """Ends the session with the last of the calls that go on over it, and tells that."""
        self._is_retired = True
        self._task.add_done_callback(lambda _: ended(self))
        self._end_when_unused()

    def _end_when_unused(self) -> None:
        if self._is_retired and not self._calls:
            self._stop.set()

    async def listed(self) -> Mapping[str, RemoteTool]:
        """The server's tools, as it listed them not long ago."""
        if time.monotonic() - self._listed_at > _LISTED_SECONDS:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self.list_tools()
        return self._tools

    async def list_tools(self) -> Mapping[str, RemoteTool]:
        """The server's tools now. Raises ValueError for more than is allowed."""
        client = self._entered()
        tools: dict[str, RemoteTool] = {}
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            for tool in page.tools:
                tools.setdefault(tool.name, RemoteTool(tool.name, tool.description or "", tool.input_schema))
            cursor = page.next_cursor
            if not cursor or len(tools) > MAX_TOOLS:
                break
        if cursor or len(tools) > MAX_TOOLS:
            raise ValueError(f"more than {MAX_TOOLS} tools")
        # A tool of the server's own comes before ours of the same name.
        self._own = frozenset(tools)
        tools = {**await reading_tools(client), **tools}
        self._tools, self._listed_at = tools, time.monotonic()
        return tools

    async def call(self, tool: str, arguments: JsonObject, context: CallContext) -> Any:
        """What the tool gave. The SDK's own check of results is left out: it runs the server's patterns here."""
        self._calls += 1
        try:
            return await self._answer(tool, arguments, context)
        finally:
            self._calls -= 1
            self._end_when_unused()

    async def _answer(self, tool: str, arguments: JsonObject, context: CallContext) -> Any:
        session = self._entered().session

        async def told(progress: float, total: float | None, message: str | None) -> None:
            context.tell(Progress(message or "", progress, total or 0.0))

        async def ask(request: Any, kind: Any) -> Any:
            return await session.send_request(
                request, kind, request_read_timeout_seconds=context.timeout_seconds, progress_callback=told
            )

        if tool not in self._own:
            return await read(tool, arguments, ask)
        params = types.CallToolRequestParams(name=tool, arguments=arguments)
        return _value(await ask(types.CallToolRequest(params=params), types.CallToolResult))

    def _entered(self) -> Client:
        if self._client is None:
            raise ValueError("not connected")
        return self._client

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                client = Client(self._transport.streams, message_handler=self._heard, cache=None)
                self._client = await stack.enter_async_context(client)
                self._ready.set_result(None)
                await self._stop.wait()
        except Exception:
            self._fail()
        finally:
            self._client = None
            self._fail()

    def _fail(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(ServiceDown("no connection"))
            # Somebody may have stopped waiting.
            self._ready.exception()

    async def _heard(self, message: Any) -> None:
        """A server that says its list changed is asked again before the next call."""
        if isinstance(message, types.ToolListChangedNotification):
            self._listed_at = float("-inf")


def _hash(tool: RemoteTool | None) -> str:
    try:
        return offer_of(tool).hash if tool else ""
    except ErrandError:
        return ""


def _value(result: types.CallToolResult) -> Any:
    """What the tool gave: its structured value, else its texts. Raises ToolFailed for an error it reports."""
    text = "\n".join(told(block) for block in result.content)
    if result.is_error:
        raise ToolFailed(text[:500].strip() or "The tool failed and did not say why.")
    if result.structured_content is not None:
        return result.structured_content
    return {"text": text}
