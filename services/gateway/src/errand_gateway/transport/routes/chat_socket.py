"""Chat over a WebSocket: one connection, message after message, the same events as the stream of POST /api/v1/chat.

The client sends JSON objects: a body of POST /api/v1/chat, or {"cancel": true} to end the run that goes on.
Every message is guarded, limited, paid for and written down like a request of its own.
"""

import asyncio
import contextlib
from typing import Any, Final

import orjson
import structlog
from errand_common.db import new_id
from errand_common.errors import Conflict, ErrandError, Internal, InvalidArgument, Unauthenticated
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.routing import WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import Requires
from errand_gateway.transport.context import RequestContext, bind_context
from errand_gateway.transport.errors import answer_errand_error, late_error
from errand_gateway.transport.routes.chat import ChatRequest
from errand_gateway.transport.run_events import ENDED, run_events
from errand_gateway.transport.services import Services
from errand_gateway.transport.spending import hold_for_run
from errand_gateway.transport.tracing import describe_chat, describe_end, request_span

_log = structlog.get_logger(__name__)
PATH: Final = "/api/v1/chat/socket"
PROTOCOL: Final = "errand.v1"
_BEARER: Final = "bearer."
_NO_LONGER_WELCOME: Final = 1008
_guard = Requires(Permission.RUNS_CREATE)


async def chat_socket(socket: WebSocket) -> None:
    """Answers one connection until either side ends it."""
    scope = _with_credentials(socket.scope)
    try:
        async with _exchange(scope) as request:
            await _guard(request)
    except ErrandError as error:
        await socket.send_denial_response(answer_errand_error(new_id("req"), PATH, error))
        return
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    with contextlib.suppress(WebSocketDisconnect):
        await _Conversation(socket, scope).run()


class _Conversation:
    """A connection, with the run that goes on."""

    def __init__(self, socket: WebSocket, scope: Scope) -> None:
        self._socket = socket
        self._scope = scope
        self._running: asyncio.Task[None] | None = None
        self._end_was_told = False

    async def run(self) -> None:
        """Takes messages; a client that goes away cancels its run."""
        try:
            while True:
                await self._take(await self._socket.receive_text())
        finally:
            await self._cancel()

    async def _take(self, text: str) -> None:
        request_id = new_id("req")
        try:
            message = _message(text)
            if message is not None and self._goes_on:
                raise Conflict("a run goes on; wait for its end, or cancel it", resource="run")
        except ErrandError as error:
            await self._tell_error(request_id, error)
            return
        await self._cancel()
        if message is None:
            return
        self._end_was_told = False
        self._running = asyncio.create_task(self._answer(message, request_id))

    @property
    def _goes_on(self) -> bool:
        return self._running is not None and not self._running.done() and not self._end_was_told

    async def _answer(self, message: ChatRequest, request_id: str) -> None:
        try:
            async with _exchange(self._scope, request_id) as request:
                caller = await _guard(request)
                services: Services = request.app.state.services
                context: RequestContext = request.scope["errand"]
                context.agent, context.streamed = message.agent, True
                describe_chat(message.message, session=message.conversation_id, user=caller.id)
                await hold_for_run(request, services, caller, message.agent)
                async for item in run_events(services.agents.stream(message.command(None)), context):
                    self._end_was_told = item.event == ENDED
                    await self._tell(str(item.event), str(item.data), item.id)
        except ErrandError as error:
            self._end_was_told = True
            await self._tell_error(request_id, error)
            if isinstance(error, Unauthenticated):
                await self._socket.close(_NO_LONGER_WELCOME)
        except (WebSocketDisconnect, RuntimeError):
            # The client has gone while it was told something.
            _log.debug("socket_closed", request_id=request_id)
        except Exception:
            _log.exception("chat_message_failed", request_id=request_id)
            self._end_was_told = True
            text = "something went wrong on our side; name the request id when you ask for help"
            await self._tell_error(request_id, Internal(text))

    async def _tell(self, name: str, data: str, number: str | None) -> None:
        head = orjson.dumps({"event": name, "id": int(number)} if number else {"event": name}).decode()
        await self._socket.send_text(f'{head[:-1]},"data":{data}}}')

    async def _tell_error(self, request_id: str, error: ErrandError) -> None:
        body = late_error(request_id, PATH, error)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._tell("error", orjson.dumps(body).decode(), None)

    async def _cancel(self) -> None:
        """Ends the run that goes on; one whose end was told is let be paid for and written down."""
        if self._running is not None:
            if self._goes_on:
                self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def _message(text: str) -> ChatRequest | None:
    """A message, None for the wish to cancel; raises InvalidArgument."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument("send JSON: a body of POST /api/v1/chat", field="message") from error
    if given == {"cancel": True}:
        return None
    try:
        return ChatRequest.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "message"
        raise InvalidArgument(str(problem["msg"])[:500], field=field[:200]) from error


@contextlib.asynccontextmanager
async def _exchange(scope: Scope, request_id: str = "") -> Any:
    """A request of its own for one message, written down when it ends."""
    own = {**scope, "type": "http", "method": "WEBSOCKET"}
    context = RequestContext(request_id=request_id or new_id("req"))
    bind_context(own, context)
    services: Services = scope["app"].state.services
    status = 499
    # Who connects asks for nothing yet.
    with request_span(own, Headers(scope=own)) if request_id else contextlib.nullcontext():
        try:
            with context.until_the_end:
                yield Request(own)
            status = 200
        except ErrandError as error:
            status = error.status.http
            raise
        except Exception:
            status = 500
            raise
        finally:
            if request_id:
                describe_end(own, status)
                services.record(own, context, status)


def _with_credentials(scope: Scope) -> Scope:
    """Browsers can send no headers here: they name the token as a protocol, `bearer.TOKEN`."""
    names = {name for name, _ in scope["headers"]}
    token = next((each for each in scope.get("subprotocols", []) if each.startswith(_BEARER)), None)
    if token is None or b"authorization" in names:
        return scope
    header = (b"authorization", b"Bearer " + token.removeprefix(_BEARER).encode())
    return {**scope, "headers": [*scope["headers"], header]}


route = WebSocketRoute(PATH, chat_socket, name="chat_socket")
