"""Access tokens from a real endpoint on loopback that answers well and badly."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from errand_common.http import Reach
from errand_tools.clients.oauth import GuardedTokenSource
from errand_tools.domain.tokens import AccessToken
from errand_tools.domain.tools import AuthScheme, HttpAuth, ServiceDown, ToolDenied, ToolError, ToolFailed

SECRET = "p:ss/w rd"
GOOD = b'{"access_token": "abc", "token_type": "Bearer", "expires_in": 3600}'


class Login:
    """Answers every request with one status and body."""

    def __init__(self) -> None:
        self.status, self.body, self.more = "200 OK", GOOD, ""
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r")[0])
        self.requests.append(head + (await reader.readexactly(length)).decode())
        start = f"HTTP/1.1 {self.status}\r\n{self.more}content-length: {len(self.body)}\r\n\r\n"
        writer.write(start.encode() + self.body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    @property
    def auth(self) -> HttpAuth:
        """A client of it."""
        url = f"http://127.0.0.1:{self.port}/token"
        return HttpAuth(AuthScheme.CLIENT_CREDENTIALS, "key", token_url=url, client_id="er rand", scope="a b")


@pytest.fixture
async def login() -> AsyncIterator[Login]:
    login = Login()
    server = await asyncio.start_server(login.serve, "127.0.0.1", 0)
    login.port = server.sockets[0].getsockname()[1]
    yield login
    server.close()


@pytest.fixture
async def source(login: Login) -> AsyncIterator[GuardedTokenSource]:
    source = GuardedTokenSource(Reach(None, ("127.0.0.0/8",), (login.port,)))
    yield source
    await source.close()


async def test_a_token_is_bought_with_the_clients_secret(login: Login, source: GuardedTokenSource) -> None:
    assert await source.fetch(login.auth, SECRET) == AccessToken("abc", 3600.0)
    [request] = login.requests
    assert request.endswith("grant_type=client_credentials&scope=a+b")
    basic = request.split("Basic ")[1].split("\r")[0] if "Basic " in request else ""
    assert base64.b64decode(basic).decode() == "er%20rand:p%3Ass%2Fw%20rd"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        ("401 Unauthorized", b'{"error": "invalid_client"}', ToolFailed, "401 invalid_client"),
        ("302 Found", b"{}", ToolFailed, "302"),
        ("500 Oops", b"", ServiceDown, "500"),
        ("429 Slow", b"", ServiceDown, "429"),
        ("200 OK", b"[]", ToolFailed, "no token"),
        ("200 OK", b"<html>", ToolFailed, "no token"),
        ("200 OK", b"[" * 60_000, ToolFailed, "no token"),
        ("200 OK", b'{"access_token": 5}', ToolFailed, "no token"),
        ("200 OK", b'{"access_token": "a\\r\\nX-Evil: 1"}', ToolFailed, "no token"),
        ("200 OK", b'{"access_token": "a", "token_type": "mac"}', ToolFailed, "kind"),
        ("200 OK", b"x" * 100_000, ToolFailed, "too large"),
    ],
)
async def test_bad_answers_are_told(
    login: Login, source: GuardedTokenSource, status: str, body: bytes, kind: type[ToolError], words: str
) -> None:
    login.status, login.body = status, body
    login.more = "location: http://127.0.0.1/elsewhere\r\n" if status.startswith("302") else ""
    with pytest.raises(kind, match=words) as raised:
        await source.fetch(login.auth, SECRET)
    assert SECRET not in raised.value.message
    assert len(login.requests) == 1


@pytest.mark.parametrize("given", ["null", '"soon"', "-5", "{}"])
async def test_an_odd_lifetime_is_none(login: Login, source: GuardedTokenSource, given: str) -> None:
    login.body = b'{"access_token": "abc", "expires_in": ' + given.encode() + b"}"
    assert (await source.fetch(login.auth, SECRET)).seconds == 0.0


@pytest.mark.parametrize("url", ["http://169.254.169.254/token", "http://[::1]/token", "http://2130706433/token"])
async def test_the_secret_goes_to_no_private_address(login: Login, url: str) -> None:
    source = GuardedTokenSource(Reach(None))
    with pytest.raises(ToolDenied):
        await source.fetch(replace(login.auth, token_url=url), SECRET)
    await source.close()


async def test_a_server_that_is_away_is_told(login: Login, source: GuardedTokenSource) -> None:
    with pytest.raises((ServiceDown, ToolDenied)):
        await source.fetch(replace(login.auth, token_url="https://127.0.0.1:1/token"), SECRET)
