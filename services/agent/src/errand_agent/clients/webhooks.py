"""Sends what happens to addresses that tenants name, through the guard of outgoing HTTP."""

from __future__ import annotations

from errand_common.http import Reach, guarded_client
from httpx import HTTPError, InvalidURL
from ssrfguard import SSRFGuardError

_SECONDS = 10.0
_USER_AGENT = "errand-webhooks"


class GuardedSender:
    """Posts to the hosts that the operator lists. Redirects are not followed."""

    def __init__(self, reach: Reach) -> None:
        self._client = guarded_client(reach.policy(redirects=1), follow=False, user_agent=_USER_AGENT)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> str:
        """Empty when it was taken, else why not; the answer's body is not read."""
        sent = {**headers, "content-type": "application/json"}
        try:
            async with self._client.stream("POST", url, content=body, headers=sent, timeout=_SECONDS) as response:
                return "" if response.is_success else f"it answered with status {response.status_code}"
        except SSRFGuardError:
            return "the address may not be reached"
        except (HTTPError, InvalidURL, UnicodeError) as error:
            return f"it could not be reached: {type(error).__name__}"

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
