"""A provider of models on this machine, in both APIs that the remote engine speaks: for tests without a network."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered when `pattern` is found in the last user message; `calls` are (name, arguments as JSON)."""

    pattern: str
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


@dataclass
class Provider:
    """Answers by its replies. `failures` are statuses that are given first, one a request; 0 breaks the stream off.

    `probe_failures` are those of its list of models.
    """

    replies: Sequence[Reply]
    key: str = "secret"
    failures: list[int] = field(default_factory=list)
    probe_failures: list[int] = field(default_factory=list)
    retry_after: str = "0"
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answer's stream; OpenAI's when the request is none of Anthropic's."""
        return _openai(body, self.replies)


@contextmanager
def serving_provider(provider: Provider) -> Iterator[Provider]:
    """Serves it on a free port of this machine; `url` is set meanwhile."""

    class Handler(_Handler):
        served = provider

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Provider

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _failure(self, failures: list[int]) -> int | None:
        given = self.headers.get("x-api-key") or (self.headers.get("authorization") or "").removeprefix("Bearer ")
        failure = failures.pop(0) if failures else None
        return failure if given == self.served.key else 401

    def do_GET(self) -> None:
        self.send_response(self._failure(self.served.probe_failures) or 200)
        self.end_headers()
        self.wfile.write(b'{"data":[]}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.served.asked.append(body)
        failure = self._failure(self.served.failures)
        if failure:
            self.send_response(failure)
            self.send_header("retry-after", self.served.retry_after)
            self.end_headers()
            self.wfile.write(b'{"error":{"message":"no"}}')
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        is_anthropic = self.path.endswith("/messages")
        events = _anthropic(body, self.served.replies) if is_anthropic else self.served.events(body)
        try:
            for number, event in enumerate(events):
                if failure == 0 and number == 2:
                    return
                kind = f"event: {event['type']}\n" if "type" in event else ""
                self.wfile.write(f"{kind}data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            return  # the caller went away


def _answer(body: Mapping[str, Any], replies: Sequence[Reply]) -> tuple[list[str], Reply, bool]:
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    latest = next((text for text in reversed(said) if isinstance(text, str)), "")
    reply = next((reply for reply in replies if re.search(reply.pattern, latest)), Reply(""))
    stops = body.get("stop") or body.get("stop_sequences") or []
    text = reply.text[: min((at for stop in stops if (at := reply.text.find(stop)) >= 0), default=len(reply.text))]
    pieces = re.findall(r"\s*\S+|\s+", text)
    most = body["max_tokens"]
    return pieces[:most], reply, len(pieces) > most


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    return max(1, len(json.dumps(body["messages"])) // 4)


def _openai(body: Mapping[str, Any], replies: Sequence[Reply]) -> Iterator[dict[str, Any]]:
    pieces, reply, is_cut = _answer(body, replies)
    yield {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    for piece in pieces:
        yield {"choices": [{"delta": {"content": piece}}]}
    for index, (name, arguments) in enumerate(reply.calls):
        half = len(arguments) // 2
        yield _call_delta(index, {"name": name, "arguments": arguments[:half]})
        yield _call_delta(index, {"arguments": arguments[half:]})
    reason = "length" if is_cut else "tool_calls" if reply.calls else "stop"
    yield {"choices": [{"delta": {}, "finish_reason": reason}]}
    usage = {"prompt_tokens": _prompt_tokens(body), "completion_tokens": len(pieces) + 5 * len(reply.calls)}
    yield {"choices": [], "usage": usage}


def _call_delta(index: int, function: dict[str, str]) -> dict[str, Any]:
    return {"choices": [{"delta": {"tool_calls": [{"index": index, "function": function}]}}]}


def _anthropic(body: Mapping[str, Any], replies: Sequence[Reply]) -> Iterator[dict[str, Any]]:
    pieces, reply, is_cut = _answer(body, replies)
    yield {"type": "message_start", "message": {"usage": {"input_tokens": _prompt_tokens(body)}}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for piece in pieces:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    for index, (name, arguments) in enumerate(reply.calls, start=1):
        yield {"type": "content_block_start", "index": index, "content_block": {"type": "tool_use", "name": name}}
        half = len(arguments) // 2
        for part in (arguments[:half], arguments[half:]):
            delta = {"type": "input_json_delta", "partial_json": part}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
    reason = "max_tokens" if is_cut else "tool_use" if reply.calls else "end_turn"
    tokens = len(pieces) + 5 * len(reply.calls)
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}
    yield {"type": "message_stop"}
