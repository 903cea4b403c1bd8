"""HTTP for tools: every address is checked where the socket is opened, and every answer bounded."""

import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import httpx
from errand_common.http import (
    Reach,
    UnknownEncoding,
    guarded_client,
    media_type,
    read_bounded,
    refusal,
    transport_failure,
)
from ssrfguard import Resolver, SSRFGuardError

from errand_tools.clients.html import text_of
from errand_tools.domain.templates import build_call
from errand_tools.domain.tools import (
    CallContext,
    ExecutionStatus,
    HttpBinding,
    JsonObject,
    OutcomeUnknown,
    ServiceDown,
    ToolDenied,
    ToolFailed,
    ToolNotFound,
)

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# A longer body is cut, not refused.
MAX_BODY_BYTES: Final = 1024 * 1024
USER_AGENT: Final = "errand-tools"
_ERROR_CHARACTERS: Final = 200
# The call was not sent when one of these is raised.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
# Answers of a server that is at fault itself and surely did nothing; with any other of 500 and above it may have.
_NOT_DONE: Final = frozenset({429, 501, 503, 505})
_UNKNOWN_ENCODING: Final = "The service answered in a compression that is not known here."
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")


class GuardedWebFetcher:
    """http_get: GET of the hosts on the allow list, redirects only among them."""

    def __init__(self, reach: Reach) -> None:
        self._on = bool(reach.hosts)
        self._client = guarded_client(reach.policy(redirects=3), follow=True, user_agent=USER_AGENT)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, url: str) -> JsonObject:
        """{"status": …, "body": …}, the body as text. Raises ToolError."""
        if not self._on:
            raise ToolDenied("Fetching web pages is turned off here; answer without it.")
        try:
            async with self._client.stream("GET", url) as response:
                body = await read_bounded(response, MAX_BODY_BYTES)
                return {"status": response.status_code, "body": _page_text(response, body)}
        except UnknownEncoding:
            raise ToolFailed(_UNKNOWN_ENCODING) from None
        except SSRFGuardError as error:
            raise denial(error) from None
        except httpx.InvalidURL:
            raise ToolFailed("The URL cannot be read; give one such as https://host/path.") from None
        except (httpx.HTTPError, UnicodeError, zlib.error) as error:
            raise ServiceDown(transport_failure(error)) from None


class GuardedHttpCaller:
    """Calls tenants' HTTP tools. Redirects are not followed: they could repeat an effect."""

    def __init__(self, reach: Reach, *, resolver: Resolver | None = None) -> None:
        self._client = guarded_client(reach.policy(redirects=1), follow=False, user_agent=USER_AGENT, resolver=resolver)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def call(
        self,
        binding: HttpBinding,
        arguments: JsonObject,
        context: CallContext,
        *,
        keyed: bool,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> JsonObject:
        """{"status": …, "body": …}, a JSON body parsed.

        Raises ToolError when the call surely failed, OutcomeUnknown when its answer was lost.
        """
        call = build_call(binding, arguments)
        sent = {"accept": "application/json, text/*;q=0.9, */*;q=0.5", **headers}
        if keyed:
            sent["idempotency-key"] = context.effect_id
        try:
            async with self._client.stream(call.method, call.url, json=call.body, headers=sent) as response:
                return _answer(response, await read_bounded(response, MAX_BODY_BYTES))
        except UnknownEncoding:
            raise OutcomeUnknown(_UNKNOWN_ENCODING, status=ExecutionStatus.FAILED) from None
        except SSRFGuardError as error:
            raise denial(error) from None
        except (*_NOT_SENT, httpx.InvalidURL, UnicodeError) as error:
            raise ServiceDown(transport_failure(error)) from None
        except (httpx.HTTPError, OSError, zlib.error) as error:
            raise OutcomeUnknown(transport_failure(error), status=ExecutionStatus.FAILED) from None


def _answer(response: httpx.Response, body: bytes) -> JsonObject:
    status = response.status_code
    if 200 <= status < 300:
        return {"status": status, "body": _parsed(response, body)}
    told = _page_text(response, body).strip()[:_ERROR_CHARACTERS]
    message = f"The service answered {status}{': ' + told if told else ''}."
    if status in (404, 410):
        raise ToolNotFound(message)
    if status in _NOT_DONE:
        raise ServiceDown(message)
    if status >= 500:
        raise OutcomeUnknown(message, status=ExecutionStatus.FAILED)
    raise ToolFailed(message)


def _parsed(response: httpx.Response, body: bytes) -> Any:
    if "json" in media_type(response):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            # It did what was asked and then said so badly.
            told = "The service answered with JSON that cannot be read."
            raise OutcomeUnknown(told, status=ExecutionStatus.FAILED) from None
    return _page_text(response, body)


def _page_text(response: httpx.Response, body: bytes) -> str:
    kind = media_type(response)
    if kind and not (kind.startswith(_TEXT_TYPES) or kind.endswith(("+json", "+xml"))):
        return f"({len(body)} bytes of {kind[:60]}, which is no text)"
    try:
        text = body.decode(response.charset_encoding or "utf-8", errors="replace")
    except LookupError:
        text = body.decode("utf-8", errors="replace")
    return text_of(text) if kind in ("text/html", "application/xhtml+xml") else text


def denial(error: SSRFGuardError) -> ToolDenied:
    """What a model or a person is told of a refusal."""
    return ToolDenied(refusal(error))
