"""The reader process: takes requests on standard input, answers on standard output.

A frame is a length of eight bytes, big-endian, then so many bytes. A request is two frames, a JSON
header and the document; an answer is one JSON frame.
"""

import json
import os
import resource
import struct
import sys
from typing import Any, BinaryIO

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ReadRequest
from errand_rag.domain.ports import TokenCounter
from errand_rag.domain.reading import read_document
from errand_rag.domain.tokens import default_counter
from errand_rag.parsers.formats import parse_document

LENGTH = struct.Struct(">Q")


def main() -> None:
    """Serves until the other side closes."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # A parser that prints must not break the frames.
    os.dup2(2, 1)
    counter = default_counter()
    while (header := _read(requests)) is not None:
        content = _read(requests) or b""
        data = json.dumps(_answer(content, ReadRequest(**json.loads(header)), counter)).encode()
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()


def _answer(content: bytes, request: ReadRequest, counter: TokenCounter) -> dict[str, Any]:
    try:
        read = read_document(content, request, parse_document, counter)
    except DocumentRejected as rejected:
        return {"rejected": str(rejected)}
    except (MemoryError, RecursionError):
        return {"rejected": "the document needs more memory to read than is allowed"}
    except Exception as error:
        return {"rejected": f"the document cannot be read ({type(error).__name__})"}
    return {
        "title": read.title,
        "media_type": read.media_type,
        "clean_text": read.clean_text,
        # A chunk's text is the clean text between its offsets: it is not sent again.
        "chunks": [[c.id, c.start, c.end, c.heading, c.page] for c in read.chunks],
    }


def _read(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(prefix)[0]) if len(prefix) == LENGTH.size else None


if __name__ == "__main__":
    main()
