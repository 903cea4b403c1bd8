"""Idempotency-Key on every POST: a request that is sent again gets the answer that the first one got."""

import asyncio
import hashlib
import re
from typing import Any, Final

import structlog
from errand_common.errors import InvalidArgument
from errand_common.principal import Principal
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from errand_gateway.domain.idempotency import LARGEST_ANSWER_BYTES, Claim, Idempotency, Replay
from errand_gateway.transport.context import RequestContext

_log = structlog.get_logger(__name__)
_HEADER: Final = "idempotency-key"
_KEY: Final = re.compile(r"^[\x21-\x7e]{1,128}$")
_KEPT_HEADERS: Final = frozenset({"content-type", "etag", "location"})
_MOST_FILES: Final = 1
_MOST_FIELDS: Final = 4
_PIECE_BYTES: Final = 1024 * 1024

IDEMPOTENCY_PARAMETER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your own key for this request: sent again within a day, it gets the same answer and does nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[\x21-\x7e]+$"},
}
"""How the API's description tells of it."""


class Replayed(Exception):  # noqa: N818 - no error: it carries an answer
    """A request was made before; raised by the guard and answered with what was answered then."""

    def __init__(self, answer: Replay) -> None:
        super().__init__("replayed")
        self.answer = answer


async def on_replayed(_request: Request, replayed: Exception) -> Response:
    """The answer that was given before."""
    if not isinstance(replayed, Replayed):
        raise replayed
    answer = replayed.answer
    return Response(answer.body, answer.status, headers={**dict(answer.headers), "Idempotency-Replayed": "true"})


def has_key(scope: Scope) -> bool:
    """Whether a request has an Idempotency-Key."""
    return scope["method"] == "POST" and any(name == b"idempotency-key" for name, _ in scope["headers"])


async def claim(request: Request, idempotency: Idempotency, principal: Principal) -> Claim:
    """The right to carry the request out; raises Replayed, InvalidArgument or Conflict."""
    keys = request.headers.getlist(_HEADER)
    if len(keys) != 1 or not _KEY.match(keys[0]):
        raise InvalidArgument("must be one key of 1 to 128 visible ASCII characters", field="Idempotency-Key")
    try:
        begun = await idempotency.begin(principal, keys[0], await _fingerprint(request))
    except BaseException:
        await request.close()
        raise
    if isinstance(begun, Replay):
        await request.close()
        raise Replayed(begun)
    return begun


async def _fingerprint(request: Request) -> str:
    accept = "text/event-stream" in request.headers.get("accept", "")
    digest = hashlib.sha256(f"{request.url.path}?{request.url.query}\n{accept}\n".encode())
    if request.headers.get("content-type", "").startswith("multipart/"):
        for name, value in (await _form(request)).multi_items():
            digest.update(f"\n{name}\n".encode())
            await _add(digest, value)
    else:
        digest.update(await request.body())
    return digest.hexdigest()


async def _form(request: Request) -> FormData:
    """The form, which the route then finds read; clients draw another boundary each time they send it."""
    try:
        return await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
    except HTTPException as error:
        raise InvalidArgument(f"the multipart body cannot be read: {error.detail}", field="body") from error


async def _add(digest: Any, value: UploadFile | str) -> None:
    if isinstance(value, str):
        digest.update(value.encode())
        return
    digest.update(f"{value.filename}\n".encode())
    while piece := await value.read(_PIECE_BYTES):
        digest.update(piece)
    await value.seek(0)


class KeptAnswer:
    """Sends an answer and keeps it, before its last piece is sent; one that is no success is not kept.

    A stream is not kept, only that there was one: sent again, the request goes to the service behind, which
    knows the key too.
    """

    def __init__(self, context: RequestContext, send: Send) -> None:
        self._context = context
        self._send = send
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._body = bytearray()
        self._whole = True

    async def send(self, message: Message) -> None:
        """Passes a piece on."""
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body":
            self._take(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish()
        await self._send(message)

    def _begin(self, message: Message) -> None:
        self._status = message["status"]
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]]
        self._headers = tuple((name, value) for name, value in headers if name in _KEPT_HEADERS)
        self._whole = not dict(self._headers).get("content-type", "").startswith("text/event-stream")

    def _take(self, piece: bytes) -> None:
        self._whole = self._whole and len(self._body) + len(piece) <= LARGEST_ANSWER_BYTES
        if self._whole:
            self._body += piece

    async def _finish(self) -> None:
        claimed = self._context.claim
        if claimed is None or not 200 <= self._status < 300:
            return
        self._context.claim = None
        if self._whole:
            await claimed.finish(self._status, self._headers, bytes(self._body))
        else:
            await claimed.finish_without_answer()

    async def close(self) -> None:
        """Gives the key back when there was no answer to keep; the client may be gone by now."""
        claimed, self._context.claim = self._context.claim, None
        if claimed is not None:
            await asyncio.shield(_released(claimed))


async def _released(claimed: Claim) -> None:
    try:
        await claimed.release()
    except Exception as error:
        _log.warning("idempotency_key_not_released", error=type(error).__name__)
