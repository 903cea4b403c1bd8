"""A real server and a real channel: who gets in, what is refused, how errors come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common.errors import (
    DeadlineExceeded,
    ErrandError,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from errand_common.principal import current_principal
from errand_common.rpc.client import acting_as, create_channel, deadline_seconds, translate_errors
from errand_common.rpc.server import Registration, RpcServer
from errand_common.settings import ServiceSettings
from errand_common.telemetry.metrics import RPC_REQUESTS
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_common.testing.rpc import rpc_pair, serving
from errand_common.tokens import TokenVerifier
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import REGISTRY

CANARY = "canary-password"


class _Rag(rag_pb2_grpc.RagServiceServicer):
    """Does what the query says."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.searches = 0

    async def Search(self, request: rag_pb2.SearchRequest, context: Any) -> rag_pb2.SearchResponse:  # noqa: N802 - the contract's name
        self.searches += 1
        match request.query:
            case "away":
                raise Unavailable("chroma")
            case "missing":
                raise NotFound("collection", "c-1")
            case "busy":
                raise Overloaded("full", retry_after_seconds=3.5)
            case "bug":
                raise RuntimeError(f"driver says {CANARY}")
            case "hang":
                try:
                    await asyncio.sleep(60)
                finally:
                    self.cancelled.set()
        who = current_principal()
        hit = rag_pb2.SearchHit(text=f"{who.tenant_id}/{who.id}/{who.request_id}", score=deadline_seconds(1000.0))
        return rag_pb2.SearchResponse(hits=[hit])

    async def UploadDocument(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[rag_pb2.UploadDocumentRequest], context: Any
    ) -> rag_pb2.UploadDocumentResponse:
        parts = [part async for part in request_iterator]
        return rag_pb2.UploadDocumentResponse(document=rag_pb2.Document(size_bytes=len(parts)))


def _registration(servicer: _Rag) -> Registration:
    return Registration(rag_pb2_grpc.add_RagServiceServicer_to_server, servicer, "errand.rag.v1.RagService")


async def _search(channel: grpc.aio.Channel, keys: TestKeys, query: str, seconds: float = 5) -> rag_pb2.SearchResponse:
    with acting_as(principal(), signer=keys.signer), translate_errors("rag"):
        return await rag_pb2_grpc.RagServiceStub(channel).Search(rag_pb2.SearchRequest(query=query), timeout=seconds)


async def test_principal_request_id_and_deadline_reach_the_handler(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        hit = (await _search(channel, keys, "hello", seconds=60)).hits[0]
    assert hit.text == "default/user-1/req-test"
    assert 30 < hit.score < 61


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "Basic dTpw"),)])
async def test_without_a_valid_token_no_method_answers(keys: TestKeys, metadata: tuple[tuple[str, str], ...]) -> None:
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        stub = rag_pb2_grpc.RagServiceStub(channel)
        for method in rag_pb2.DESCRIPTOR.services_by_name["RagService"].methods:
            if method.client_streaming:
                call = getattr(stub, method.name)(iter([rag_pb2.UploadDocumentRequest()]), metadata=metadata, timeout=5)
            else:
                request = getattr(rag_pb2, method.input_type.name)()
                call = getattr(stub, method.name)(request, metadata=metadata, timeout=5)
            with pytest.raises(Unauthenticated), translate_errors("rag"):
                await (call.read() if method.server_streaming else call)


async def test_errors_come_back_as_the_class_that_was_raised(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        with pytest.raises(NotFound) as missing:
            await _search(channel, keys, "missing")
        assert missing.value.metadata == {"resource": "collection", "id": "c-1"}
        with pytest.raises(Overloaded) as busy:
            await _search(channel, keys, "busy")
        assert isinstance(busy.value, Throttled)
        assert busy.value.retry_after_seconds == 3.5


async def test_a_bug_is_internal_and_leaks_nothing(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        with pytest.raises(Internal) as raised:
            await _search(channel, keys, "bug")
    assert CANARY not in f"{raised.value}{raised.value.metadata}"


async def test_a_request_that_breaks_its_rules_names_the_field(keys: TestKeys) -> None:
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        with pytest.raises(InvalidArgument) as raised:
            await _search(channel, keys, "")
        assert raised.value.metadata["field"] == "query"
        stub = rag_pb2_grpc.RagServiceStub(channel)
        with acting_as(principal(), signer=keys.signer), pytest.raises(ErrandError) as part, translate_errors("rag"):
            await stub.UploadDocument(iter([rag_pb2.UploadDocumentRequest()]), timeout=5)
        assert isinstance(part.value, InvalidArgument)


async def test_a_deadline_ends_the_handler(keys: TestKeys) -> None:
    servicer = _Rag()
    async with rpc_pair([_registration(servicer)], keys) as channel:
        with pytest.raises(DeadlineExceeded):
            await _search(channel, keys, "hang", seconds=0.3)
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


async def test_a_service_that_is_away_is_named(keys: TestKeys) -> None:
    async with create_channel(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(Unavailable) as raised:
            await _search(channel, keys, "hello")
    assert raised.value.dependency == "rag"


async def test_health_and_reflection_need_no_token(keys: TestKeys) -> None:
    async with serving([_registration(_Rag())], keys) as target, create_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service="errand.rag.v1.RagService")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = await asyncio.to_thread(_reflected, target)
    assert "errand.rag.v1.RagService" in services


def _reflected(target: str) -> list[str]:
    with grpc.insecure_channel(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert descriptor_pool.DescriptorPool(database).FindServiceByName("errand.rag.v1.RagService")
        return list(database.get_services())


async def test_calls_are_counted_by_code(keys: TestKeys) -> None:
    method = "errand.rag.v1.RagService/Search"
    before = RPC_REQUESTS.labels(method, "NOT_FOUND")._value.get()
    async with rpc_pair([_registration(_Rag())], keys) as channel:
        with pytest.raises(NotFound):
            await _search(channel, keys, "missing")
    assert RPC_REQUESTS.labels(method, "NOT_FOUND")._value.get() == before + 1
    # An objective counts the first fault too, so its series is there before it.
    assert REGISTRY.get_sample_value("rpc_server_requests_total", {"method": method, "code": "DATA_LOSS"}) == 0


async def test_a_call_is_counted_while_it_lasts(keys: TestKeys) -> None:
    def in_flight() -> float:
        labels = {"method": "errand.rag.v1.RagService/Search"}
        return REGISTRY.get_sample_value("rpc_server_in_flight", labels) or 0.0

    rag, before = _Rag(), in_flight()
    async with rpc_pair([_registration(rag)], keys) as channel, asyncio.timeout(30):
        asking = asyncio.create_task(_search(channel, keys, "hang"))
        while not rag.searches:  # noqa: ASYNC110 - the handler tells nobody
            await asyncio.sleep(0.01)
        assert in_flight() - before == 1
        asking.cancel()
        await rag.cancelled.wait()
        while in_flight() != before:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def test_a_handler_that_failed_is_not_asked_again_in_silence(keys: TestKeys) -> None:
    """It may have had effects: whether to try again is its caller's decision."""
    servicer = _Rag()
    async with rpc_pair([_registration(servicer)], keys) as channel:
        with pytest.raises(Unavailable), translate_errors("rag"):
            await _search(channel, keys, "away")
    assert servicer.searches == 1


async def test_a_server_is_not_ready_before_it_can_verify_tokens(keys: TestKeys, tmp_path: Path) -> None:
    """In a rollout it would be sent calls that it refuses while others could answer them."""
    late = tmp_path / "jwks.json"
    server = RpcServer(ServiceSettings(), TokenVerifier(str(late)), [])
    port = await server.start()
    ready = asyncio.create_task(server.set_serving(True))
    try:
        async with create_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            before = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert before.status == health_pb2.HealthCheckResponse.NOT_SERVING
            late.write_text(keys.jwks_file.read_text())
            await asyncio.wait_for(ready, 10)
            after = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert after.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(0)


async def test_all_calls_of_a_server_that_ends_find_another_one(keys: TestKeys) -> None:
    class Quick(_Rag):
        async def Search(self, request: rag_pb2.SearchRequest, context: Any) -> rag_pb2.SearchResponse:  # noqa: N802
            self.searches += 1
            return rag_pb2.SearchResponse()

    ending, other = _Rag(), Quick()
    async with serving([_registration(other)], keys) as there, AsyncExitStack() as stack:
        here = await stack.enter_async_context(serving([_registration(ending)], keys))
        async with create_channel(f"ipv4:{here},{there}") as channel, asyncio.timeout(30):
            while not (ending.searches and other.searches):
                await _search(channel, keys, "hello")
            begun = ending.searches + other.searches
            asked = [asyncio.ensure_future(_search(channel, keys, "hang", seconds=30)) for _ in range(60)]
            while ending.searches + other.searches < begun + 60:  # noqa: ASYNC110 - two servers, one count
                await asyncio.sleep(0.01)
            assert ending.searches > 20, "the calls are spread"
            await stack.aclose()
            await asyncio.gather(*asked)
