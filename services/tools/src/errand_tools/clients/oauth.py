"""Access tokens of OAuth 2 authorization servers, behind the same guard as HTTP tools."""

import json
from typing import Any, Final
from urllib.parse import quote

import httpx
from errand_common.http import Reach, guarded_client
from ssrfguard import Resolver, SSRFGuardError

from errand_tools.clients.http import USER_AGENT, denial
from errand_tools.domain.tokens import AccessToken
from errand_tools.domain.tools import HttpAuth, ServiceDown, ToolFailed

_SECONDS: Final = 10.0
_MAX_BYTES: Final = 64 * 1024
_MAX_TOKEN: Final = 8192


class GuardedTokenSource:
    """Client credentials (RFC 6749, 4.4), the client named by HTTP Basic. Redirects are not followed."""

    def __init__(self, reach: Reach, *, resolver: Resolver | None = None) -> None:
        policy = reach.policy(redirects=1)
        self._client = guarded_client(policy, follow=False, user_agent=USER_AGENT, resolver=resolver)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def fetch(self, auth: HttpAuth, client_secret: str) -> AccessToken:
        """A new token. Raises ToolError, whose message tells nothing that was sent."""
        form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
        # Both are form-encoded before they are joined (RFC 6749, 2.3.1).
        basic = httpx.BasicAuth(quote(auth.client_id, safe=""), quote(client_secret, safe=""))
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        try:
            async with self._client.stream(
                "POST", auth.token_url, data=form, auth=basic, headers=headers, timeout=_SECONDS
            ) as response:
                return _token(response.status_code, await _read(response))
        except SSRFGuardError as error:
            raise denial(error) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError):
            raise ServiceDown("The authorization server of the tool cannot be reached.") from None


async def _read(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw(16 * 1024):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise ToolFailed("The authorization server's answer is too large.")
    return body


def _token(status: int, body: bytes) -> AccessToken:
    answer = _object(body)
    if status >= 500 or status == 429:
        raise ServiceDown(f"The authorization server of the tool answered {status}.")
    if status != 200:
        # Its description is free text of a server; the code is one of a few words.
        code = str(answer.get("error", ""))[:64]
        raise ToolFailed(f"The authorization server refuses the tool's client: {status} {code}".rstrip() + ".")
    token, kind = answer.get("access_token"), str(answer.get("token_type", "bearer")).lower()
    if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN or not (token.isascii() and token.isprintable()):
        raise ToolFailed("The authorization server gave no token that can be sent.")
    if kind != "bearer":
        raise ToolFailed("The authorization server gave a token of a kind that is not known here.")
    return AccessToken(token, _seconds(answer.get("expires_in")))


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _seconds(given: Any) -> float:
    try:
        return max(0.0, float(given))
    except (TypeError, ValueError):
        return 0.0
