"""Access tokens of OAuth clients, kept until shortly before they end."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from errand_tools.domain.tools import HttpAuth

# A token must still be good when it arrives.
_MARGIN_SECONDS = 30.0
# What holds where the server does not say, or says much.
_USUAL_SECONDS = 300.0
_LONGEST_SECONDS = 3600.0
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, and for how many seconds it is good; 0 where the server did not say."""

    value: str
    seconds: float = 0.0


class TokenSource(Protocol):
    """Asks authorization servers."""

    async def fetch(self, auth: HttpAuth, client_secret: str) -> AccessToken:
        """A new token by client credentials. Raises ToolError."""


class AccessTokens:
    """Tokens by tenant and client; a changed secret or scope asks anew."""

    def __init__(self, source: TokenSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._kept: OrderedDict[str, tuple[AccessToken, float]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[AccessToken]] = {}

    async def token(self, tenant_id: str, auth: HttpAuth, client_secret: str) -> str:
        """A token that is good now. Raises ToolError."""
        key = _key(tenant_id, auth, client_secret)
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept[1]:
            return kept[0].value
        # Calls at once share one question.
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._fetch(key, auth, client_secret))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return (await asyncio.shield(asking)).value

    async def _fetch(self, key: str, auth: HttpAuth, client_secret: str) -> AccessToken:
        token = await self._source.fetch(auth, client_secret)
        seconds = min(token.seconds or _USUAL_SECONDS, _LONGEST_SECONDS)
        self._kept[key] = (token, self._clock() + max(0.0, seconds - _MARGIN_SECONDS))
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return token


def _key(tenant_id: str, auth: HttpAuth, client_secret: str) -> str:
    """A hash: the secret itself is in no key."""
    parts = (tenant_id, auth.secret, auth.token_url, auth.client_id, auth.scope, client_secret)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
