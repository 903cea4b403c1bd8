"""What stands around the replicas: a model with a plan, the real tools service, and a counter outside of it all."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from errand.common.v1 import common_pb2
from errand.inference.v1 import inference_pb2 as inference
from errand.tools.v1 import tools_pb2 as tools
from errand.tools.v1 import tools_pb2_grpc
from errand_agent.testing.backend import FakeInference
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal

TOOL = "add_effect"
SCHEMA = json.dumps({"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]})


_BODY = b'{"done":true}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class EffectCounter:
    """An HTTP service that keeps each effect under its Idempotency-Key, as a bank or a shop does."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self._seen: set[str] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[EffectCounter]:
        """Listens on loopback until the end of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", "0")))
                self._count(first.split()[1].rpartition("/")[2], headers.get("idempotency-key", ""))
                writer.write(_ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _count(self, effect: str, key: str) -> None:
        self.requests[effect] += 1
        if key not in self._seen:
            self._seen.add(key)
            self.effects[effect] += 1


class PlannedInference(FakeInference):
    """Calls the tool so many times, thinking so long before each turn, and then answers."""

    def __init__(self, steps: int, think_seconds: float) -> None:
        super().__init__()
        self.steps, self.think_seconds = steps, think_seconds

    async def GenerateStream(  # noqa: N802 - the contract's name
        self, request: inference.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[inference.GenerateStreamResponse]:
        """One turn."""
        messages = request.request.messages
        question = next(message.user.text for message in reversed(messages) if message.HasField("user"))
        done = sum(message.HasField("tool") for message in messages)
        await asyncio.sleep(self.think_seconds)
        usage = common_pb2.TokenUsage(prompt_tokens=10, completion_tokens=5)
        result = inference.GenerateResponse(usage=usage, model="planned", finish_reason=inference.FINISH_REASON_STOP)
        if done < self.steps:
            result.calls.add(name=TOOL, arguments_json=json.dumps({"key": f"{question}-{done}"}))
            result.finish_reason = inference.FINISH_REASON_TOOL_CALLS
        else:
            result.text = f"{done} effects are done."
            yield inference.GenerateStreamResponse(text_delta=result.text)
        yield inference.GenerateStreamResponse(result=result)


@asynccontextmanager
async def tools_service(folder: Path, keys: TestKeys, counter: EffectCounter) -> AsyncIterator[str]:
    """The real tools service with the one tool that has an effect; its target."""
    port = free_port()
    environment = os.environ | {
        "ERRAND_TOOLS_PORT": str(port),
        "ERRAND_TOOLS_DATA_DIR": str(folder),
        "ERRAND_TOOLS_JWKS": str(keys.jwks_file),
        "ERRAND_TOOLS_HTTP_PORTS": str(counter.port),
        "ERRAND_TOOLS_HTTP_PRIVATE_NETWORKS": "127.0.0.0/8",
    }
    with (folder / "tools.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "errand_tools", "serve", env=environment, stdout=log, stderr=log
        )
        try:
            await _register(f"127.0.0.1:{port}", keys, counter)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def _register(target: str, keys: TestKeys, counter: EffectCounter) -> None:
    http = tools.HttpBinding(method="POST", url_template=f"http://127.0.0.1:{counter.port}/effects/{{key}}")
    tool = tools.Tool(
        name=TOOL,
        description="Does something in the world.",
        parameters_json=SCHEMA,
        http=http,
        side_effect=tools.SIDE_EFFECT_IDEMPOTENT,
    )
    with acting_as(principal(roles=("admin",)), signer=keys.signer):
        async with create_channel(target) as channel:
            stub = tools_pb2_grpc.ToolsServiceStub(channel)
            await stub.ListTools(tools.ListToolsRequest(), timeout=90, wait_for_ready=True)
            await stub.RegisterTool(tools.RegisterToolRequest(tool=tool), timeout=10)
