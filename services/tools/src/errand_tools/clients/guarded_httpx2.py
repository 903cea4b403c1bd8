"""The guarded HTTP client under libraries that speak httpx2: every address is checked where the socket is opened."""

from collections.abc import AsyncIterator

import httpx
import httpx2
from errand_common.http import Reach, guarded_client
from ssrfguard import SSRFGuardError

from errand_tools.clients.http import USER_AGENT, denial
from errand_tools.domain.tools import ToolDenied

# Of one response, an event stream included: a server that floods is cut off.
MAX_RESPONSE_BYTES = 8 * 1024 * 1024
# They say how the bytes travel between the guard and the server, and mean nothing above it.
_HOP_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends httpx2's requests through the guard. `denied` says why the last refused request was."""

    def __init__(self, reach: Reach) -> None:
        self._client = guarded_client(reach.policy(redirects=1), follow=False, user_agent=USER_AGENT)
        self.denied: ToolDenied | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() != "accept-encoding"]
        sent = self._client.build_request(
            request.method,
            str(request.url),
            headers=[*headers, ("accept-encoding", "identity")],
            content=await request.aread(),
        )
        try:
            response = await self._client.send(sent, stream=True)
        except SSRFGuardError as error:
            self.denied = denial(error)
            raise httpx2.ConnectError(self.denied.message, request=request) from None
        except httpx.TimeoutException as error:
            raise httpx2.ReadTimeout(str(error), request=request) from None
        except httpx.HTTPError as error:
            raise httpx2.ConnectError(str(error), request=request) from None
        kept = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _HOP_HEADERS]
        return httpx2.Response(response.status_code, headers=kept, stream=_Bounded(response), request=request)

    async def aclose(self) -> None:
        await self._client.aclose()


class _Bounded(httpx2.AsyncByteStream):
    """A response's bytes up to the most."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_RESPONSE_BYTES
        try:
            async for chunk in self._response.aiter_raw():
                left -= len(chunk)
                if left < 0:
                    raise httpx2.ReadError("the server sent more than is allowed")
                yield chunk
        except httpx.HTTPError as error:
            raise httpx2.ReadError(str(error)) from None

    async def aclose(self) -> None:
        await self._response.aclose()
