"""gRPC tools against a real server with reflection."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from errand_common.http import Reach
from errand_common.telemetry import tracer
from errand_common.testing.spans import RecordedSpans
from errand_tools.clients import grpc as client
from errand_tools.clients.descriptors import method_of
from errand_tools.clients.grpc import GuardedGrpcCaller
from errand_tools.domain.schema import parse_parameters
from errand_tools.domain.tools import (
    CallContext,
    ExecutionStatus,
    GrpcBinding,
    OutcomeUnknown,
    ServiceDown,
    ToolDenied,
    ToolError,
    ToolFailed,
    ToolNotFound,
    canonical_json,
)
from errand_tools.testing.shop import Shop, serving

CONTEXT = CallContext(timeout_seconds=5)
ORDER = {
    "id": 7,
    "items": [{"sku": "a", "count": 2}],
    "colour": "COLOUR_RED",
    "labels": {"x": 1},
    "at": "2026-01-31T12:00:00Z",
}


def near(port: int) -> Reach:
    return Reach(None, ("127.0.0.0/8",), (port,))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with serving(Shop()) as running:
        yield running


@pytest.fixture
async def caller(shop: Shop) -> AsyncIterator[GuardedGrpcCaller]:
    caller = GuardedGrpcCaller(near(shop.port))
    yield caller
    await caller.close()


def binding(shop: Shop, method: str = "Place", host: str = "127.0.0.1") -> GrpcBinding:
    return GrpcBinding(f"{host}:{shop.port}", f"shop.v1.Orders/{method}", plaintext=True, artifact=method)


async def place(caller: GuardedGrpcCaller, shop: Shop, arguments: dict[str, Any] = ORDER, **more: Any) -> Any:
    one = binding(shop)
    _, artifact = await caller.describe(one)
    return await caller.call(one, artifact, arguments, replace(CONTEXT, **more), headers={"X-Key": "k"})


async def test_a_method_is_found_and_called(caller: GuardedGrpcCaller, shop: Shop) -> None:
    answer = await place(caller, shop)
    # 64-bit integers are texts in protobuf's JSON; fields that were left out have their zero.
    assert answer == {**ORDER, "id": "7", "note": ""}
    request, metadata = shop.seen[0]
    assert (request.id, metadata["x-key"]) == (7, "k")


async def test_the_arguments_are_a_schema_that_the_registry_takes(caller: GuardedGrpcCaller, shop: Shop) -> None:
    parameters, artifact = await caller.describe(binding(shop))
    assert parse_parameters(canonical_json(parameters)) == parameters
    properties = parameters["properties"]
    assert properties["colour"] == {"type": "string", "enum": ["COLOUR_UNSPECIFIED", "COLOUR_RED"]}
    assert properties["labels"]["additionalProperties"]["type"] == "integer"
    assert properties["items"]["items"]["properties"]["count"]["minimum"] == 0
    assert properties["at"]["type"] == "string"
    assert method_of(artifact, "shop.v1.Orders/Place").parameters == parameters
    assert (await caller.describe(binding(shop)))[1] == artifact


@pytest.mark.parametrize(
    ("method", "words"), [("Grow", "holds itself"), ("Watch", "streams"), ("Nothing", "has no method")]
)
async def test_what_cannot_be_a_tool_is_told(caller: GuardedGrpcCaller, shop: Shop, method: str, words: str) -> None:
    with pytest.raises(ToolFailed, match=words):
        await caller.describe(binding(shop, method))


async def test_a_service_that_is_not_known_is_told(caller: GuardedGrpcCaller, shop: Shop) -> None:
    with pytest.raises(ToolNotFound, match=r"package\.Service/Method"):
        await caller.describe(replace(binding(shop), method="shop.v1.Nobody/Place"))


async def test_a_server_without_reflection_is_told() -> None:
    async with serving(Shop(), reflected=False) as shop:
        caller = GuardedGrpcCaller(near(shop.port))
        with pytest.raises(ToolFailed, match="does not offer reflection"):
            await caller.describe(binding(shop))
        await caller.close()


@pytest.mark.parametrize("arguments", [{"id": "x"}, {"colour": "BLUE"}, {"at": "today"}, {"nobody": 1}, {"id": 2**70}])
async def test_arguments_that_do_not_fit_are_not_sent(
    caller: GuardedGrpcCaller, shop: Shop, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ToolFailed, match="do not fit"):
        await place(caller, shop, arguments)
    assert shop.seen == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, ToolNotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, ToolFailed),
        (grpc.StatusCode.PERMISSION_DENIED, ToolFailed),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServiceDown),
        (grpc.StatusCode.UNAVAILABLE, OutcomeUnknown),
        (grpc.StatusCode.INTERNAL, OutcomeUnknown),
        (grpc.StatusCode.UNKNOWN, OutcomeUnknown),
    ],
)
async def test_errors_say_whether_it_was_done(
    caller: GuardedGrpcCaller, shop: Shop, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(code, "because")

    shop.behaviour = refuse
    with pytest.raises(kind, match="because") as raised:
        await place(caller, shop)
    assert type(raised.value) is kind


async def test_an_answer_that_does_not_come_is_lost(caller: GuardedGrpcCaller, shop: Shop) -> None:
    async def hang(_: Any, __: Any) -> None:
        await asyncio.sleep(60)

    shop.behaviour = hang
    with pytest.raises(OutcomeUnknown) as raised:
        await place(caller, shop, timeout_seconds=0.3)
    assert raised.value.status is ExecutionStatus.TIMED_OUT


async def test_an_answer_that_is_too_large_is_lost(caller: GuardedGrpcCaller, shop: Shop) -> None:
    async def flood(request: Any, _: Any) -> Any:
        request.note = "x" * (client.MAX_RESPONSE_BYTES + 1)
        return request

    shop.behaviour = flood
    with pytest.raises(OutcomeUnknown, match="too large"):
        await place(caller, shop)


async def test_an_answer_that_is_no_message_is_lost(caller: GuardedGrpcCaller, shop: Shop) -> None:
    async def garbage(_: Any, __: Any) -> bytes:
        return b"\xff\xff\xff"

    shop.behaviour = garbage
    with pytest.raises(OutcomeUnknown, match="cannot be read"):
        await place(caller, shop)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
async def test_private_addresses_are_refused(shop: Shop, host: str) -> None:
    caller = GuardedGrpcCaller(Reach(None, (), (shop.port,)))
    with pytest.raises(ToolDenied):
        await caller.describe(binding(shop, host=host))
    await caller.close()
    assert shop.seen == []


async def test_a_port_that_is_not_allowed_is_refused(shop: Shop) -> None:
    caller = GuardedGrpcCaller(Reach(None, ("127.0.0.0/8",)))
    with pytest.raises(ToolDenied, match="port"):
        await caller.describe(binding(shop))
    await caller.close()


async def test_a_name_that_moves_to_a_private_address_is_refused(shop: Shop) -> None:
    """The address that was checked is the one that is dialled, so a second answer of the name changes nothing."""
    answers = ["93.184.216.34", "127.0.0.1"]

    def resolver(host: str, port: int, *_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    caller = GuardedGrpcCaller(Reach(None, (), (shop.port,)), resolver=resolver)
    address = await caller._address(binding(shop, host="moving.example"))
    assert client._dialled(address) == f"ipv4:93.184.216.34:{shop.port}"
    with pytest.raises(ToolDenied):
        await caller.describe(binding(shop, host="moving.example"))
    await caller.close()


async def test_a_server_that_is_away_was_sent_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        caller = GuardedGrpcCaller(near(port))
        with pytest.raises(ServiceDown):
            await caller.describe(GrpcBinding(f"127.0.0.1:{port}", "shop.v1.Orders/Place", plaintext=True))
        await caller.close()


def certificate(name: str) -> tuple[bytes, bytes]:
    """A key and a certificate for a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, built.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(("named", "reached"), [("orders.example", True), ("other.example", False)])
async def test_the_certificate_is_the_names(named: str, reached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # What must not be reached is waited for until the clock says no.
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 2.0 if reached else 0.5)
    key, public = certificate(named)

    def resolver(host: str, port: int, *_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with serving(Shop(), credentials=grpc.ssl_server_credentials([(key, public)])) as shop:
        caller = GuardedGrpcCaller(near(shop.port), roots=public, resolver=resolver)
        one = GrpcBinding(f"orders.example:{shop.port}", "shop.v1.Orders/Place")
        try:
            parameters, _ = await caller.describe(one)
            assert reached
            assert "items" in parameters["properties"]
        except ToolError:
            assert not reached
        await caller.close()


async def test_the_service_learns_the_trace_that_calls_it(
    caller: GuardedGrpcCaller, shop: Shop, spans: RecordedSpans
) -> None:
    with tracer("test").start_as_current_span("execute_tool custom"):
        await place(caller, shop)
    asked = next(span for span in spans.ended if span.name == "shop.v1.Orders/Place")
    metadata = shop.seen[0][1]
    assert metadata["traceparent"].startswith(f"00-{asked.context.trace_id:032x}-{asked.context.span_id:016x}-")
    assert "baggage" not in metadata
    assert (asked.attributes or {})["rpc.grpc.status_code"] == 0
