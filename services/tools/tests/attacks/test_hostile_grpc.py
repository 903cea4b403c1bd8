"""A gRPC server whose reflection means harm."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from errand_common.http import Reach
from errand_tools.clients import grpc as client
from errand_tools.clients.grpc import GuardedGrpcCaller
from errand_tools.domain.tools import GrpcBinding, ToolError
from errand_tools.testing.shop import SERVICE, field, files, message
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

_T = descriptor_pb2.FieldDescriptorProto


class Reflection(reflection_pb2_grpc.ServerReflectionServicer):
    """Answers each question with what `files` gives for it."""

    def __init__(self) -> None:
        self.asked = 0
        self.files: Callable[[Any], Any] = lambda _: []

    async def ServerReflectionInfo(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The protocol's one method."""
        async for request in requests:
            self.asked += 1
            given = self.files(request)
            if asyncio.iscoroutine(given):
                given = await given
            found = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=given)
            yield reflection_pb2.ServerReflectionResponse(file_descriptor_response=found)


@pytest.fixture
async def reflection() -> AsyncIterator[tuple[Reflection, int]]:
    servicer = Reflection()
    server = grpc.aio.server()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, port
    await server.stop(0)


def file(name: str, *imports: str, size: int = 0) -> bytes:
    """A file that imports others."""
    made = descriptor_pb2.FileDescriptorProto(name=name, package="a", syntax="proto3", dependency=imports)
    if size:
        made.message_type.append(message("M" * size, field("x", 1, _T.TYPE_STRING)))
    return made.SerializeToString()


def shop_with(change: Callable[[descriptor_pb2.FileDescriptorProto], None]) -> list[bytes]:
    """The shop's files, its own one changed."""
    made = files()
    change(made[-1])
    return [one.SerializeToString() for one in made]


def chain(request: Any) -> list[bytes]:
    """Each file imports another one."""
    number = int(request.file_by_filename.removesuffix(".proto") or 0) if request.file_by_filename else 0
    return [file(f"{number}.proto", f"{number + 1}.proto")]


def deep(shop: descriptor_pb2.FileDescriptorProto) -> None:
    """Places an order of messages in messages in messages."""
    for number in range(30):
        shop.message_type.append(message(f"L{number}", field("next", 1, _T.TYPE_MESSAGE, f".shop.v1.L{number + 1}")))
    shop.message_type.append(message("L30", field("x", 1, _T.TYPE_STRING)))
    shop.service[0].method[0].input_type = ".shop.v1.L0"


def wide(shop: descriptor_pb2.FileDescriptorProto) -> None:
    """Each message holds the next one ten times over: a few lines, ten million nodes."""
    for number in range(7):
        fields = [field(f"f{index}", index + 1, _T.TYPE_MESSAGE, f".shop.v1.W{number + 1}") for index in range(10)]
        shop.message_type.append(message(f"W{number}", *fields))
    shop.message_type.append(message("W7", field("x", 1, _T.TYPE_STRING)))
    shop.service[0].method[0].input_type = ".shop.v1.W0"


def dangling(shop: descriptor_pb2.FileDescriptorProto) -> None:
    """Takes a message that is nowhere."""
    shop.service[0].method[0].input_type = ".shop.v1.Nothing"


async def silence(_: Any) -> list[bytes]:
    await asyncio.sleep(60)
    return []


ATTACKS: dict[str, Callable[[Any], Any]] = {
    "no files": lambda _: [],
    "garbage": lambda _: [b"\xff\xff\xff\xff"],
    "an endless chain of imports": chain,
    "files that import each other": lambda _: [file("a.proto", "b.proto"), file("b.proto", "a.proto")],
    "a file that imports itself": lambda _: [file("a.proto", "a.proto")],
    "a file too large": lambda _: [file("a.proto", size=client.MAX_DESCRIPTOR_BYTES)],
    "very many files": lambda _: [file(f"{number}.proto") for number in range(client.MAX_FILES + 10)],
    "an answer over the limit": lambda _: [file("a.proto", size=client.MAX_RESPONSE_BYTES + 1)],
    "silence": silence,
    "deep messages": lambda _: shop_with(deep),
    "wide messages": lambda _: shop_with(wide),
    "a message that is nowhere": lambda _: shop_with(dangling),
    "the same name twice": lambda _: shop_with(lambda shop: shop.message_type.append(message("Order"))),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_hostile_reflection_ends_in_time_and_bounds(
    reflection: tuple[Reflection, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only silence waits for the clock.
    monkeypatch.setattr(client, "_DESCRIBE_SECONDS", 0.5 if name == "silence" else 3.0)
    servicer, port = reflection
    servicer.files = ATTACKS[name]
    caller = GuardedGrpcCaller(Reach(None, ("127.0.0.0/8",), (port,)))
    binding = GrpcBinding(f"127.0.0.1:{port}", f"{SERVICE}/Place", plaintext=True)
    try:
        with pytest.raises(ToolError):
            async with asyncio.timeout(20):
                await caller.describe(binding)
    finally:
        await caller.close()
    assert servicer.asked <= client.MAX_FILES + 3
