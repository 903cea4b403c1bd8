"""HTTP as the server reads it, with bounds on a request's head: its bytes, and the time that it takes to come."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 32 * 1024
"""What request line and headers may have together."""

HEAD_SECONDS: Final = 20.0
"""How long a head may take, from its first byte, or from the beginning of a connection."""

# What is read at once may hold much of a body too, or the next requests.
_READ_BYTES: Final = 256 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's own, which by itself would keep a head without end, however slowly it comes."""

    _has_begun = False
    _head_bytes = 0
    _read_bytes = 0
    _head_ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Awaits the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Awaits nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on; refuses a head that has no end."""
        if self._head_ends is not None:
            self._read_bytes += len(data)
            if self._read_bytes > HEAD_BYTES + _READ_BYTES:
                self._refuse("The request's head is too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begins to count."""
        self._has_begun = True
        self._await_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts; raises ValueError for too much, which the parser answers with 400."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts; raises ValueError for too much, which the parser answers with 400."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Bounds end with the head: the body has its own."""
        self._stop_waiting()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_bytes = self._read_bytes = 0
        self._head_ends = self.loop.call_later(HEAD_SECONDS, self._end_waiting)

    def _end_waiting(self) -> None:
        if self._has_begun:
            self._refuse("The request did not come in time.")
        else:
            # An answer that nobody asked for would be taken for that of the request which may come next.
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too large")

    def _refuse(self, why: str) -> None:
        self._stop_waiting()
        transport: Any = self.transport
        if not transport.is_closing():
            self.send_400_response(why)
