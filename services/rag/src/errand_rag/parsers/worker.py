"""The parser process: reads requests on standard input, answers on standard output.

A frame is a length of eight bytes, big-endian, then so many bytes. A request is two frames, a JSON
header and the document; an answer is one JSON frame.
"""

import json
import os
import resource
import struct
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from errand_rag.domain.errors import DocumentRejected
from errand_rag.parsers.formats import parse_document

LENGTH = struct.Struct(">Q")


def main() -> None:
    """Serves until the other side closes."""
    header: Any = json.loads(sys.argv[1])
    limit = int(header["memory_bytes"])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # A parser that prints must not break the frames.
    os.dup2(2, 1)
    while (frame := _read(requests)) is not None:
        name = str(json.loads(frame)["filename"])
        content = _read(requests) or b""
        answer = _answer(content, name, max_pages=int(header["max_pages"]))
        data = json.dumps(answer).encode()
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()


def _answer(content: bytes, filename: str, *, max_pages: int) -> dict[str, Any]:
    try:
        return {"document": asdict(parse_document(content, filename, max_pages=max_pages))}
    except DocumentRejected as rejected:
        return {"rejected": str(rejected)}
    except (MemoryError, RecursionError):
        return {"rejected": "the document needs more memory to read than is allowed"}
    except Exception as error:
        return {"rejected": f"the document cannot be read ({type(error).__name__})"}


def _read(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(prefix)[0]) if len(prefix) == LENGTH.size else None


if __name__ == "__main__":
    main()
