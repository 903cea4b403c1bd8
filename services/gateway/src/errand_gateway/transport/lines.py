"""Answers of JSON lines, streamed."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fastapi.responses import StreamingResponse

from errand_gateway.transport.sse import started

MEDIA_TYPE: Final = "application/jsonl"


def described(text: str, example: str) -> dict[int | str, dict[str, Any]]:
    """The answer for the API's description."""
    content = {MEDIA_TYPE: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": text, "content": content}}


async def streamed(lines: AsyncIterator[str]) -> StreamingResponse:
    """The lines as they come; raises what the first one raises."""
    return StreamingResponse(_encoded(await started(lines)), media_type=MEDIA_TYPE)


async def _encoded(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async with aclosing(lines) as told:  # type: ignore[type-var]
        async for line in told:
            yield line.encode() + b"\n"
