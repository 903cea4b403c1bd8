"""What the gateway is measured beside, and the agent behind it; each a process of its own.

python bench/gateway/peers.py agent | bare | hop PORT [AGENT_TARGET]
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvicorn
import uvloop
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc as rpc
from errand.common.v1 import common_pb2
from fastapi import FastAPI
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import BaseModel

ANSWER = "17% of 2,350 is 399.5."
RUN = pb.Run(
    id="run_0190c0ffee",
    conversation_id="conv_0190c0ffee",
    agent="default",
    state=pb.RUN_STATE_ENDED,
    stop_reason=pb.STOP_REASON_ANSWER,
    answer=ANSWER,
    usage=common_pb2.TokenUsage(prompt_tokens=212, completion_tokens=31, cached_tokens=180),
)


class InstantAgent(rpc.AgentServiceServicer):
    """Answers every run at once."""

    async def RunAgent(self, request: pb.RunAgentRequest, context: Any) -> pb.RunAgentResponse:  # noqa: N802 - the protocol's
        """The same run, whatever is asked."""
        return pb.RunAgentResponse(run=RUN)


async def serve_agent(port: int) -> None:
    """The agent service until the process ends."""
    server = grpc.aio.server()
    rpc.add_AgentServiceServicer_to_server(InstantAgent(), server)
    states = health.aio.HealthServicer()
    await states.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


class ChatRequest(BaseModel):
    """A message."""

    message: str


class ChatResponse(BaseModel):
    """What is answered."""

    answer: str
    run_id: str
    prompt_tokens: int
    completion_tokens: int


def bare() -> FastAPI:
    """FastAPI that answers by itself."""
    app = FastAPI()

    @app.post("/api/v1/chat")
    async def chat(body: ChatRequest) -> ChatResponse:
        return ChatResponse(answer=ANSWER, run_id=RUN.id, prompt_tokens=212, completion_tokens=31)

    return app


def hop(target: str) -> FastAPI:
    """FastAPI that asks the agent service and does nothing else."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(target) as channel:
            app.state.agent = rpc.AgentServiceStub(channel)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/api/v1/chat")
    async def chat(body: ChatRequest) -> ChatResponse:
        run = (await app.state.agent.RunAgent(pb.RunAgentRequest(message=body.message), timeout=30)).run
        return ChatResponse(
            answer=run.answer,
            run_id=run.id,
            prompt_tokens=run.usage.prompt_tokens,
            completion_tokens=run.usage.completion_tokens,
        )

    return app


def main(kind: str, port: str, target: str = "") -> None:
    if kind == "agent":
        uvloop.run(serve_agent(int(port)))
        return
    app = bare() if kind == "bare" else hop(target)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", access_log=False, http="httptools")


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    main(*sys.argv[1:])
