"""Documents over HTTP, every address checked where the socket is opened."""

import asyncio
import zlib

import httpx
from errand_common.errors import InvalidArgument, TooLarge, Unavailable, Unsupported
from errand_common.http import (
    Reach,
    SSRFGuardError,
    UnknownEncoding,
    guarded_client,
    read_bounded,
    refusal,
    transport_failure,
)

_REDIRECTS = 5
_TOO_MANY_REQUESTS = 429


class GuardedWebFetcher:
    """The web fetcher port; with no reach it refuses all."""

    def __init__(self, reach: Reach | None, *, max_bytes: int, timeout_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._client = None
        if reach is not None:
            policy = reach.policy(redirects=_REDIRECTS)
            self._client = guarded_client(policy, follow=True, user_agent="errand-rag")

    async def get(self, url: str) -> bytes:
        """The content. Raises InvalidArgument naming `url`, TooLarge, Unavailable, Unsupported when turned off."""
        if self._client is None:
            raise Unsupported(
                "fetching documents is turned off here: upload it, or ask the operator to name hosts for it",
                feature="fetch",
            )
        try:
            async with asyncio.timeout(self._timeout_seconds), self._client.stream("GET", url) as response:
                _check_status(response.status_code)
                # One byte more than may be tells a body that is too long from one that just fits.
                content = await read_bounded(response, self._max_bytes + 1)
        except SSRFGuardError as error:
            raise InvalidArgument(refusal(error), field="url", rule="url.allowed") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
            raise InvalidArgument(
                "the URL cannot be read; give one such as https://host/path", field="url", rule="url"
            ) from None
        except TimeoutError:
            raise Unavailable("url", f"The URL's server took longer than {self._timeout_seconds:g} s.") from None
        except (UnknownEncoding, zlib.error):
            raise InvalidArgument(
                "the URL's server compressed the answer in a way that cannot be read", field="url"
            ) from None
        except httpx.HTTPError as error:
            raise Unavailable("url", transport_failure(error)) from None
        if len(content) > self._max_bytes:
            raise TooLarge(
                f"the document is larger than {self._max_bytes} bytes; split it", field="url", limit=self._max_bytes
            )
        if not content:
            raise InvalidArgument("the URL's server answered with nothing", field="url", rule="url.content")
        return content

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()


def _check_status(status: int) -> None:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == _TOO_MANY_REQUESTS:
        raise Unavailable("url", f"The URL's server answered {status}; try again later.")
    if status != httpx.codes.OK:
        raise InvalidArgument(f"the URL's server answered {status}; is the URL right?", field="url", rule="url.status")
