"""HTTP for tools: every address is checked where the socket is opened, and every answer bounded."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, Final

import httpx
from ssrfguard import (
    BlockedURLError,
    Policy,
    Resolver,
    SSRFGuardError,
    TooManyRedirectsError,
)
from ssrfguard.httpx import AsyncClient

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
MAX_BODY_BYTES: Final = 1024 * 1024
_USER_AGENT: Final = "errand-tools"
_ERROR_CHARACTERS: Final = 200
_HOST: Final = re.compile(r"^(\*\.)?[\w-]+(\.[\w-]+)*\.?$")
# The call was not sent when one of these is raised.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached.

    `hosts` are names, '*.name' patterns or addresses, each with an optional port; None is every
    public host. Private addresses are reached through `private_networks` alone.
    """

    hosts: tuple[str, ...] | None
    private_networks: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)

    def policy(self, *, redirects: int) -> Policy:
        """The guard's policy. Raises ValueError for a host or network that is none."""
        named = [_split_port(host) for host in self.hosts or ()]
        for name, _ in named:
            if not (_HOST.match(name) or _is_address(name)):
                raise ValueError(f"{name!r} is no host; write 'api.example.com', '*.example.com' or an address")
        ports = {port for _, port in named if port is not None}
        # An address that the operator lists by itself is meant to be reached, private or not.
        addresses = [ip_network(name) for name, _ in named if _is_address(name)]
        return Policy(
            allowed_hosts=frozenset(name for name, _ in named),
            allowed_networks=(*map(ip_network, self.private_networks), *addresses),
            allowed_ports=frozenset(self.ports) | ports,
            max_redirects=redirects,
        )


def _split_port(host: str) -> tuple[str, int | None]:
    name, separator, port = host.rpartition(":")
    if separator and port.isdigit() and not name.endswith(":"):
        return name.strip("[]"), int(port)
    return host.strip("[]"), None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def guarded_client(policy: Policy, follow: bool, resolver: Resolver | None = None) -> AsyncClient:
    """A client that reaches what the policy allows, and keeps nothing between calls."""
    return AsyncClient(
        policy=policy,
        resolver=resolver,
        follow_redirects=follow,
        # One client serves all tenants: a cookie that one tenant's endpoint sets must not go anywhere.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        # No ambient proxy or netrc: the guard must see every address, and nobody's credentials go.
        trust_env=False,
        timeout=httpx.Timeout(300, connect=5),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
        headers={"user-agent": _USER_AGENT, "accept-encoding": "gzip, deflate"},
    )


class GuardedWebFetcher:
    """http_get: GET of the hosts on the allow list, redirects only among them."""

    def __init__(self, reach: Reach) -> None:
        self._on = bool(reach.hosts)
        self._client = guarded_client(reach.policy(redirects=3), follow=True)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, url: str) -> JsonObject:
        """{"status": …, "body": …}, the body as text. Raises ToolError."""
        if not self._on:
            raise ToolDenied("Fetching web pages is turned off here; answer without it.")
        try:
            async with self._client.stream("GET", url) as response:
                body = await _read(response)
                return {"status": response.status_code, "body": _page_text(response, body)}
        except SSRFGuardError as error:
            raise denial(error) from None
        except httpx.InvalidURL:
            raise ToolFailed("The URL cannot be read; give one such as https://host/path.") from None
        except (httpx.HTTPError, UnicodeError, zlib.error) as error:
            raise ServiceDown(_transport_failure(error)) from None


class GuardedHttpCaller:
    """Calls tenants' HTTP tools. Redirects are not followed: they could repeat an effect."""

    def __init__(self, reach: Reach, *, resolver: Resolver | None = None) -> None:
        self._client = guarded_client(reach.policy(redirects=1), follow=False, resolver=resolver)

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
                return _answer(response, await _read(response))
        except SSRFGuardError as error:
            raise denial(error) from None
        except (*_NOT_SENT, httpx.InvalidURL, UnicodeError) as error:
            raise ServiceDown(_transport_failure(error)) from None
        except (httpx.HTTPError, OSError, zlib.error) as error:
            raise OutcomeUnknown(_transport_failure(error), status=ExecutionStatus.FAILED) from None


async def _read(response: httpx.Response) -> bytes:
    """At most MAX_BODY_BYTES of the body: a longer one is cut, not refused.

    Unpacked here and not by httpx, which would unpack a whole chunk, a thousand times its size, first.
    """
    unpack = _unpacker(response.headers.get("content-encoding", "identity").strip().lower())
    body = bytearray()
    async for chunk in response.aiter_raw(64 * 1024):
        body += unpack(chunk, MAX_BODY_BYTES - len(body))
        if len(body) >= MAX_BODY_BYTES:
            break
    return bytes(body)


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    if encoding in ("identity", ""):
        return lambda chunk, room: chunk[:room]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ToolFailed("The service answered in a compression that is not known here.")
    # 32 lets zlib tell gzip from deflate by their headers.
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def _answer(response: httpx.Response, body: bytes) -> JsonObject:
    status = response.status_code
    if 200 <= status < 300:
        return {"status": status, "body": _parsed(response, body)}
    told = _page_text(response, body).strip()[:_ERROR_CHARACTERS]
    message = f"The service answered {status}{': ' + told if told else ''}."
    if status in (404, 410):
        raise ToolNotFound(message)
    if status >= 500 or status == 429:
        raise ServiceDown(message)
    raise ToolFailed(message)


def _parsed(response: httpx.Response, body: bytes) -> Any:
    if "json" in _media_type(response):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise ToolFailed("The service answered with JSON that cannot be read.") from None
    return _page_text(response, body)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).split(";")[0].strip().lower()


def _page_text(response: httpx.Response, body: bytes) -> str:
    media_type = _media_type(response)
    if media_type and not (media_type.startswith(_TEXT_TYPES) or media_type.endswith(("+json", "+xml"))):
        return f"({len(body)} bytes of {media_type[:60]}, which is no text)"
    try:
        text = body.decode(response.charset_encoding or "utf-8", errors="replace")
    except LookupError:
        text = body.decode("utf-8", errors="replace")
    return text_of(text) if media_type in ("text/html", "application/xhtml+xml") else text


# What the guard's reasons hold, and what a model or a person can do about it.
_DENIALS: Final = (
    ("not in allowed_hosts", "The host is not on the list of allowed hosts; use another source."),
    ("not in allowed_ports", "The port is not allowed; use the usual port of http or https."),
    ("not in allowed_schemes", "Only http and https addresses are allowed."),
    ("credentials", "A URL with a user name or password in it is not allowed."),
    ("an encoded one", "The host is an address in disguise; write it plainly."),
)
_PRIVATE: Final = "The address is private or reserved, and such addresses are not allowed."


def denial(error: SSRFGuardError) -> ToolDenied:
    """What a model or a person is told of a refusal."""
    if isinstance(error, TooManyRedirectsError):
        return ToolDenied("The address redirects too often.")
    if not isinstance(error, BlockedURLError):
        return ToolDenied(_PRIVATE)
    for words, message in _DENIALS:
        if words in error.reason:
            return ToolDenied(message)
    is_network = re.match(r"\S+/\d+ is ", error.reason)
    return ToolDenied(_PRIVATE if is_network else "The URL cannot be read or is not allowed.")


def _transport_failure(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "The service did not answer in time."
    if isinstance(error, httpx.ConnectError):
        return "The service cannot be reached."
    return "The connection to the service failed."
