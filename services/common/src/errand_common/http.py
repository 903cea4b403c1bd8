"""HTTP to addresses that others name: checked where the socket is opened, answers bounded while they unpack."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address, ip_network
from typing import Any, Final

import httpx
from opentelemetry import trace
from ssrfguard import BlockedURLError, Policy, Resolver, SSRFGuardError, TooManyRedirectsError
from ssrfguard.httpx import AsyncClient

from errand_common.telemetry.bound import is_counted
from errand_common.telemetry.tracing import told_to_others, tracer

_tracer = tracer(__name__)
_HOST: Final = re.compile(r"^(\*\.)?[\w-]+(\.[\w-]+)*\.?$")
_PIECE_BYTES: Final = 64 * 1024
# Where clouds answer with the machine's credentials: nobody's business.
_METADATA: Final = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"), ip_network("fd00:ec2::/32"))


class UnknownEncoding(ValueError):  # noqa: N818 - named as what it tells
    """The answer is compressed in a way that is not known here."""


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


def checked_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts of a setting. Raises ValueError for one that is none."""
    Reach(hosts).policy(redirects=0)
    return hosts


def checked_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    """The private networks of a setting. Raises ValueError for one that is none, or that holds credentials."""
    for network in networks:
        parsed = ip_network(network)
        for metadata in _METADATA:
            if parsed.version == metadata.version and parsed.overlaps(metadata):
                raise ValueError(
                    f"{network} holds {metadata}, where clouds keep credentials; name a network without it"
                )
    # The guard refuses more: a network that only translates addresses stands for all of them.
    Reach(None, networks).policy(redirects=0)
    return networks


class _TracedClient(AsyncClient):
    """Tells of each request up to its answer's first line: where it went and how it ended, never what it asked for."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As httpx's own; the service learns the trace that calls it."""
        if is_counted(above := trace.get_current_span()):
            request.headers.update(told_to_others(above))
            return await super().send(request, **options)
        attributes = {
            "http.request.method": request.method,
            "server.address": request.url.host,
            "url.scheme": request.url.scheme,
        }
        with _tracer.start_as_current_span(
            request.method,
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            # An error's text may hold the address, and with it what was asked for.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            request.headers.update(told_to_others(span))
            try:
                response = await super().send(request, **options)
            except Exception as error:
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
            span.set_attribute("http.response.status_code", response.status_code)
            if response.is_error:
                span.set_status(trace.StatusCode.ERROR, str(response.status_code))
            return response


def guarded_client(policy: Policy, *, follow: bool, user_agent: str, resolver: Resolver | None = None) -> AsyncClient:
    """A client that reaches what the policy allows, and keeps nothing between calls."""
    return _TracedClient(
        policy=policy,
        resolver=resolver,
        follow_redirects=follow,
        # One client serves all tenants: a cookie that one tenant's endpoint sets must not go anywhere.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        # No ambient proxy or netrc: the guard must see every address, and nobody's credentials go.
        trust_env=False,
        timeout=httpx.Timeout(300, connect=5),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
        headers={"user-agent": user_agent, "accept-encoding": "gzip, deflate"},
    )


async def read_bounded(response: httpx.Response, most: int) -> bytes:
    """At most so many bytes of a streamed body; a longer one is cut. Raises UnknownEncoding, zlib.error.

    Unpacked here and not by httpx, which would unpack a whole chunk, a thousand times its size, first.
    """
    unpack = _unpacker(response.headers.get("content-encoding", "identity").strip().lower())
    body = bytearray()
    async for chunk in response.aiter_raw(_PIECE_BYTES):
        body += unpack(chunk, most - len(body))
        if len(body) >= most:
            break
    return bytes(body)


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    if encoding in ("identity", ""):
        return lambda chunk, room: chunk[:room]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnknownEncoding(encoding)
    # 32 lets zlib tell gzip from deflate by their headers.
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def media_type(response: httpx.Response) -> str:
    """The type that the answer says it is of, in small letters, without parameters."""
    return str(response.headers.get("content-type", "")).split(";")[0].strip().lower()


# What the guard's reasons hold, and what a model or a person can do about it.
_REFUSALS: Final = (
    ("not in allowed_hosts", "The host is not on the list of allowed hosts; use another source."),
    ("not in allowed_ports", "The port is not allowed; use the usual port of http or https."),
    ("not in allowed_schemes", "Only http and https addresses are allowed."),
    ("credentials", "A URL with a user name or password in it is not allowed."),
    ("an encoded one", "The host is an address in disguise; write it plainly."),
)
_PRIVATE: Final = "The address is private or reserved, and such addresses are not allowed."


def refusal(error: SSRFGuardError) -> str:
    """What a model or a person is told of an address that the guard refused."""
    if isinstance(error, TooManyRedirectsError):
        return "The address redirects too often."
    if not isinstance(error, BlockedURLError):
        return _PRIVATE
    for words, message in _REFUSALS:
        if words in error.reason:
            return message
    is_network = re.match(r"\S+/\d+ is ", error.reason)
    return _PRIVATE if is_network else "The URL cannot be read or is not allowed."


def transport_failure(error: Exception) -> str:
    """What a model or a person is told of a call that did not come through."""
    if isinstance(error, httpx.TimeoutException):
        return "The service did not answer in time."
    if isinstance(error, httpx.ConnectError):
        return "The service cannot be reached."
    return "The connection to the service failed."


__all__ = [
    "Reach",
    "SSRFGuardError",
    "UnknownEncoding",
    "checked_hosts",
    "checked_networks",
    "guarded_client",
    "media_type",
    "read_bounded",
    "refusal",
    "transport_failure",
]
