"""Streaming calls and the edges of a call's life: time, cancellation, tracing, draining."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from errand.agent.v1 import agent_pb2, agent_pb2_grpc
from errand_common.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Unauthenticated,
    Unavailable,
)
from errand_common.principal import current_principal
from errand_common.rpc import interceptors
from errand_common.rpc.client import acting_as, create_channel, translate_errors
from errand_common.rpc.server import Registration, RpcServer
from errand_common.settings import ServiceSettings
from errand_common.telemetry import configure_logging
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_common.testing.spans import RecordedSpans
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider


class _Agent(agent_pb2_grpc.AgentServiceServicer):
    """Streams what the run's id asks for."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.trace_id = 0

    async def WatchRun(  # noqa: N802 - the contract's name
        self, request: agent_pb2.WatchRunRequest, context: Any
    ) -> AsyncIterator[agent_pb2.WatchRunResponse]:
        self.trace_id = trace.get_current_span().get_span_context().trace_id
        try:
            for sequence in range(3):
                yield agent_pb2.WatchRunResponse(
                    event=agent_pb2.RunEvent(sequence=sequence, ended=agent_pb2.Run(id=current_principal().tenant_id))
                )
            match request.id:
                case "conflict":
                    raise Conflict("the run has ended", resource="run", id="x" * 100_000)
                case "bug":
                    raise RuntimeError("canary-driver-text")
                case "endless":
                    while True:
                        yield agent_pb2.WatchRunResponse()
                case "silent":
                    await asyncio.sleep(60)
        finally:
            self.ended.set()

    async def GetRun(  # noqa: N802 - the contract's name
        self, request: agent_pb2.GetRunRequest, context: Any
    ) -> agent_pb2.GetRunResponse:
        if request.id == "cancelled-work":
            work = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(work.cancel)
            await work
        await asyncio.sleep(60 if request.id == "silent" else 0)
        return agent_pb2.GetRunResponse(run=agent_pb2.Run(id=current_principal().request_id))


def _registration(servicer: _Agent) -> Registration:
    return Registration(agent_pb2_grpc.add_AgentServiceServicer_to_server, servicer, "errand.agent.v1.AgentService")


async def _all(call: Any) -> list[agent_pb2.WatchRunResponse]:
    return [response async for response in call]


async def _watch(channel: grpc.aio.Channel, keys: TestKeys, run: str) -> list[agent_pb2.RunEvent]:
    with acting_as(principal(), signer=keys.signer), translate_errors("agent"):
        call = agent_pb2_grpc.AgentServiceStub(channel).WatchRun(agent_pb2.WatchRunRequest(id=run), timeout=10)
        return [response.event async for response in call]


async def test_a_stream_has_its_principal_and_comes_in_order(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        events = await _watch(channel, keys, "run-1")
    assert [(event.sequence, event.ended.id) for event in events] == [(0, "default"), (1, "default"), (2, "default")]


async def test_a_stream_s_errors_come_back_even_when_they_are_long(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        with pytest.raises(Conflict) as raised:
            await _watch(channel, keys, "conflict")
        assert raised.value.metadata["resource"] == "run"
        with pytest.raises(Internal) as bug:
            await _watch(channel, keys, "bug")
        assert "canary" not in str(bug.value)
        assert bug.value.metadata["request_id"] == "req-test"
        with pytest.raises(InvalidArgument) as invalid:
            await _watch(channel, keys, "")
        assert invalid.value.metadata["field"] == "id"


async def test_nested_fields_are_named_as_the_public_api_knows_them(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        request = agent_pb2.StartRunRequest(request=agent_pb2.RunAgentRequest(message=""))
        with (
            acting_as(principal(), signer=keys.signer),
            pytest.raises(InvalidArgument) as raised,
            translate_errors("a"),
        ):
            await agent_pb2_grpc.AgentServiceStub(channel).StartRun(request, timeout=5)
    assert raised.value.metadata == {"field": "message", "rule": "string.min_len"}


@pytest.mark.parametrize("run", ["endless", "silent"])
async def test_a_client_that_goes_away_ends_the_handler(
    keys: TestKeys, run: str, caplog: pytest.LogCaptureFixture
) -> None:
    servicer = _Agent()
    async with rpc_pair([_registration(servicer)], keys) as channel:
        with acting_as(principal(), signer=keys.signer):
            call = agent_pb2_grpc.AgentServiceStub(channel).WatchRun(agent_pb2.WatchRunRequest(id=run), timeout=30)
            await anext(aiter(call))
        call.cancel()
        await asyncio.wait_for(servicer.ended.wait(), 10)
        await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(("run", "code"), [("run-1", 0), ("endless", 1), ("bug", 13)])
async def test_the_spans_of_a_stream_end_as_it_does(keys: TestKeys, spans: RecordedSpans, run: str, code: int) -> None:
    """Read to its end, left in the middle, or broken off: at both ends of the call."""

    def told() -> list[Any]:
        ended = [span for span in spans.ended if span.name.endswith("/WatchRun")]
        return [(span.attributes or {})["rpc.grpc.status_code"] for span in ended]

    async with rpc_pair([_registration(_Agent())], keys) as channel, asyncio.timeout(30):
        with acting_as(principal(), signer=keys.signer), contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
            call = agent_pb2_grpc.AgentServiceStub(channel).WatchRun(agent_pb2.WatchRunRequest(id=run), timeout=30)
            async for _ in call:
                if run == "endless":
                    call.cancel()
        while len(told()) < 2:  # noqa: ASYNC110 - a span's end has no event
            await asyncio.sleep(0.01)
    assert told() == [code, code]


async def test_work_that_was_cancelled_behind_a_call_still_answers(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        with acting_as(principal(), signer=keys.signer), pytest.raises(Cancelled), translate_errors("agent"):
            await agent_pb2_grpc.AgentServiceStub(channel).GetRun(
                agent_pb2.GetRunRequest(id="cancelled-work"), timeout=10
            )


async def test_calls_without_a_deadline_are_bounded(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "DEFAULT_DEADLINE_SECONDS", 0.3)
    token = (("authorization", f"Bearer {keys.signer.sign(principal())}"),)
    server = RpcServer(ServiceSettings(), keys.verifier, [_registration(_Agent())])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:  # not ours, which always sets one
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(DeadlineExceeded), translate_errors("agent"):
            await asyncio.wait_for(stub.GetRun(agent_pb2.GetRunRequest(id="silent"), metadata=token), 10)
        call = stub.WatchRun(agent_pb2.WatchRunRequest(id="silent"), metadata=token)
        with pytest.raises(DeadlineExceeded), translate_errors("agent"):
            await asyncio.wait_for(_all(call), 10)
    await server.stop(0)


async def test_streams_need_a_token_too(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(Unauthenticated), translate_errors("agent"):
            async for _ in stub.WatchRun(agent_pb2.WatchRunRequest(id="run-1"), timeout=5):
                pass


async def test_the_caller_s_trace_goes_on_in_the_handler(keys: TestKeys) -> None:
    servicer = _Agent()
    async with rpc_pair([_registration(servicer)], keys) as channel:
        with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("run") as span:
            await _watch(channel, keys, "run-1")
    assert servicer.trace_id == span.get_span_context().trace_id


async def test_a_call_without_a_request_id_is_given_one(keys: TestKeys) -> None:
    who = principal()
    nameless = type(who)(who.tenant_id, who.id)
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        with acting_as(nameless, signer=keys.signer):
            answer = await agent_pb2_grpc.AgentServiceStub(channel).GetRun(
                agent_pb2.GetRunRequest(id="run-1"), timeout=5
            )
    assert answer.run.id.startswith("req_")


async def test_a_bug_is_logged_in_full_under_its_request_id(
    keys: TestKeys, capsys: pytest.CaptureFixture[str], restored_logging: None
) -> None:
    configure_logging("agent")
    async with rpc_pair([_registration(_Agent())], keys) as channel:
        with pytest.raises(Internal):
            await _watch(channel, keys, "bug")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = (line for line in lines if line["event"] == "unexpected error")
    assert line["request_id"] == "req-test"
    assert line["tenant_id"] == "default"
    assert "canary-driver-text" in line["exception"]


async def test_draining_lets_running_calls_end_and_takes_no_new_ones(keys: TestKeys) -> None:
    servicer = _Agent()
    server = RpcServer(ServiceSettings(), keys.verifier, [_registration(servicer)])
    async with create_channel(f"127.0.0.1:{await server.start()}") as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        with acting_as(principal(), signer=keys.signer):
            running = stub.WatchRun(agent_pb2.WatchRunRequest(id="silent"), timeout=30)
            assert (await anext(aiter(running))).event.sequence == 0
            stopping = asyncio.create_task(server.stop(1.0))
            await asyncio.sleep(0.2)
            assert not servicer.ended.is_set()
            with pytest.raises(Unavailable), translate_errors("agent"):
                await stub.GetRun(agent_pb2.GetRunRequest(id="run-1"), timeout=5)
            await stopping
    await asyncio.wait_for(servicer.ended.wait(), 5)
