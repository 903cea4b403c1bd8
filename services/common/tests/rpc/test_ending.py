"""A server that ends costs no call, as long as another one is there."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from errand_common.errors import Unavailable
from errand_common.rpc.client import create_channel, translate_errors
from grpc_health.v1 import health_pb2, health_pb2_grpc

# Prints its port, and ends when its input is closed: after a moment in which it takes up no call.
SERVER = """
import asyncio, sys, time, grpc
from grpc_health.v1 import health, health_pb2_grpc

async def main():
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    time.sleep(0.3)
    await server.stop(5)

asyncio.run(main())
"""


@contextmanager
def _server() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.stdin.close()


async def _ask(*ports: int, calls: int, ending: subprocess.Popen[str]) -> None:
    """Many calls to servers of which one is ending."""
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with create_channel(target) as channel:
        ask = health_pb2_grpc.HealthStub(channel).Check
        for _ in ports:
            await ask(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert ending.stdin is not None
        ending.stdin.close()
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(_told(ask))
                await asyncio.sleep(0.002)


async def _told(ask: Callable[..., Any]) -> None:
    with translate_errors("rag"):
        await ask(health_pb2.HealthCheckRequest(), timeout=20)


async def test_calls_that_an_ending_server_did_not_take_up_are_asked_elsewhere() -> None:
    with ExitStack() as stack:
        (ending, process), (staying, _) = (stack.enter_context(_server()) for _ in range(2))
        await _ask(ending, staying, calls=300, ending=process)


async def test_without_another_server_they_are_told_as_unavailable() -> None:
    with _server() as (port, process):
        with pytest.raises(ExceptionGroup) as raised:
            await _ask(port, calls=300, ending=process)
        assert raised.group_contains(Unavailable)
