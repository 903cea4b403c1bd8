"""Webhooks over real gRPC and HTTP: signed, told again until they are taken, bound to listed hosts."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, webhooks_pb2_grpc
from errand.agent.v1 import webhooks_pb2 as pb
from errand_agent.testing.backend import fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.errors import InvalidArgument, NotFound, PermissionDenied
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys


class Receiver:
    """Takes what it is told, but for the first `refusals` requests."""

    def __init__(self) -> None:
        self.refusals = 0
        self.port = 0
        self.taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.ids: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}/hook"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.ids.append(headers["webhook-id"])
        status = "500 X" if self.refusals else "204 X"
        if self.refusals:
            self.refusals -= 1
        else:
            await self.taken.put((headers, body))
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def served(folder: Path, keys: TestKeys, receiver: Receiver) -> AsyncIterator[tuple[Any, Any, AgentProcess]]:
    async with fake_backend(keys) as backend:
        process = AgentProcess(folder, keys, backend.target, webhook_hosts=f"127.0.0.1:{receiver.port}")
        await process.start()
        async with create_channel(process.target) as channel:
            stubs = agent_pb2_grpc.AgentServiceStub(channel), webhooks_pb2_grpc.WebhookServiceStub(channel)
            yield *stubs, process
        assert process.end() == 0
        assert "whsec_" not in process.log()


def _verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(wanted, headers["webhook-signature"])


async def _put(hooks: Any, url: str, *events: pb.WebhookEvent, **more: Any) -> pb.PutWebhookResponse:
    webhook = pb.Webhook(**{"name": "hook", "url": url, "events": events, **more})
    response: pb.PutWebhookResponse = await hooks.PutWebhook(pb.PutWebhookRequest(webhook=webhook))
    return response


async def test_an_approval_is_told_and_the_webhook_knows_that_it_comes_from_here(
    tmp_path: Path, keys: TestKeys
) -> None:
    receiver = Receiver()
    receiver.refusals = 1
    async with receiver.serving() as url, served(tmp_path, keys, receiver) as (agents, hooks, process):
        with as_somebody(keys, "default", "the-admin", "admin"):
            put = await _put(hooks, url, pb.WEBHOOK_EVENT_APPROVAL_REQUESTED)
            request = agent_pb2.RunAgentRequest(message="fetch it")
            run = (await agents.StartRun(agent_pb2.StartRunRequest(request=request))).run
            headers, body = await asyncio.wait_for(receiver.taken.get(), 60)
            assert _verified(put.secret, headers, body)
            assert not _verified(put.secret, headers, body + b" ")
            told = json.loads(body)
            assert told["type"] == "approval_requested"
            assert (told["data"]["run_id"], told["data"]["tool_name"]) == (run.id, "http_get")
            assert len(receiver.ids) == 2
            assert len(set(receiver.ids)) == 1, "an attempt that failed is told again under its id"
            decision = agent_pb2.ApproveCallRequest(approval_id=told["data"]["approval_id"])
            await agents.ApproveCall(decision)
            async with asyncio.timeout(30):
                while (delivery := await _last(hooks)).state != pb.DELIVERY_STATE_DELIVERED:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
            assert (delivery.attempts, delivery.run_id, delivery.last_error) == (2, run.id, "")
            attempts = [
                process.figure("agent_webhook_attempts_total", result=result) for result in ("failed", "delivered")
            ]
            assert attempts == [1, 1]


async def _last(hooks: Any) -> pb.Delivery:
    listed = await hooks.ListDeliveries(pb.ListDeliveriesRequest(name="hook"))
    newest: pb.Delivery = listed.deliveries[0]
    return newest


async def test_a_run_s_end_is_told_and_one_that_rests_tells_nothing(tmp_path: Path, keys: TestKeys) -> None:
    receiver = Receiver()
    async with receiver.serving() as url, served(tmp_path, keys, receiver) as (agents, hooks, _):
        with as_somebody(keys, "default", "the-admin", "admin"):
            await _put(hooks, url, pb.WEBHOOK_EVENT_RUN_ENDED)
            await _put(hooks, url, pb.WEBHOOK_EVENT_RUN_ENDED, name="resting", paused=True)
            run = (await agents.RunAgent(agent_pb2.RunAgentRequest(message="calculate it"))).run
            _, body = await asyncio.wait_for(receiver.taken.get(), 60)
            assert json.loads(body)["data"] == {
                "run_id": run.id,
                "conversation_id": run.conversation_id,
                "agent": "default",
                "stop_reason": "ANSWER",
            }
            assert (await hooks.ListDeliveries(pb.ListDeliveriesRequest(name="resting"))).deliveries == []
            await hooks.DeleteWebhook(pb.DeleteWebhookRequest(name="hook"))
            listed = (await hooks.ListWebhooks(pb.ListWebhooksRequest())).webhooks
            assert [row.name for row in listed] == ["resting"]
            with pytest.raises(NotFound), translate_errors("agent"):
                await _last(hooks)


async def test_only_admins_and_only_listed_hosts(agent_target: str, keys: TestKeys) -> None:
    async with create_channel(agent_target) as channel:
        hooks: Any = webhooks_pb2_grpc.WebhookServiceStub(channel)
        with (
            as_somebody(keys, "default", "ann"),
            pytest.raises(PermissionDenied),
            translate_errors("agent"),
        ):
            await _put(hooks, "https://example.com/", pb.WEBHOOK_EVENT_RUN_ENDED)
        with as_somebody(keys, "default", "the-admin", "admin"):
            with pytest.raises(InvalidArgument, match="not among the hosts"), translate_errors("agent"):
                await _put(hooks, "https://example.com/", pb.WEBHOOK_EVENT_RUN_ENDED)
            assert (await hooks.ListWebhooks(pb.ListWebhooksRequest())).webhooks == []
