"""A gRPC server of a shop, made without generated code, that offers reflection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from grpc_reflection.v1alpha import reflection

_T = descriptor_pb2.FieldDescriptorProto
SERVICE = "shop.v1.Orders"


def field(name: str, number: int, type_: int, type_name: str = "", *, many: bool = False) -> Any:
    """A field of a message."""
    label = _T.LABEL_REPEATED if many else _T.LABEL_OPTIONAL
    return _T(name=name, number=number, type=type_, type_name=type_name or None, label=label)  # type: ignore[arg-type]


def message(name: str, *fields: Any, nested: tuple[Any, ...] = ()) -> descriptor_pb2.DescriptorProto:
    """A message."""
    return descriptor_pb2.DescriptorProto(name=name, field=fields, nested_type=nested)


def files() -> list[descriptor_pb2.FileDescriptorProto]:
    """The shop's files, each after what it imports."""
    entry = message("LabelsEntry", field("key", 1, _T.TYPE_STRING), field("value", 2, _T.TYPE_INT32))
    entry.options.map_entry = True
    types = descriptor_pb2.FileDescriptorProto(name="shop/v1/types.proto", package="shop.v1", syntax="proto3")
    types.message_type.append(message("Item", field("sku", 1, _T.TYPE_STRING), field("count", 2, _T.TYPE_UINT32)))
    colours = descriptor_pb2.EnumDescriptorProto(name="Colour")
    for number, name in enumerate(("COLOUR_UNSPECIFIED", "COLOUR_RED")):
        colours.value.add(name=name, number=number)
    types.enum_type.append(colours)
    shop = descriptor_pb2.FileDescriptorProto(
        name="shop/v1/shop.proto",
        package="shop.v1",
        syntax="proto3",
        dependency=["shop/v1/types.proto", "google/protobuf/timestamp.proto"],
    )
    order = message(
        "Order",
        field("id", 1, _T.TYPE_INT64),
        field("items", 2, _T.TYPE_MESSAGE, ".shop.v1.Item", many=True),
        field("colour", 3, _T.TYPE_ENUM, ".shop.v1.Colour"),
        field("labels", 4, _T.TYPE_MESSAGE, ".shop.v1.Order.LabelsEntry", many=True),
        field("at", 5, _T.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
        field("note", 6, _T.TYPE_STRING),
        nested=(entry,),
    )
    shop.message_type.extend([order, message("Tree", field("child", 1, _T.TYPE_MESSAGE, ".shop.v1.Tree"))])
    service = shop.service.add(name="Orders")
    for name, kind in (("Place", "Order"), ("Grow", "Tree")):
        service.method.add(name=name, input_type=f".shop.v1.{kind}", output_type=f".shop.v1.{kind}")
    service.method.add(name="Watch", input_type=".shop.v1.Order", output_type=".shop.v1.Order", server_streaming=True)
    timestamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    return [timestamp, types, shop]


class Shop:
    """Answers each order with itself, or does what `behaviour` says."""

    def __init__(self) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        for file in files():
            self.pool.Add(file)
        self.order = message_factory.GetMessageClass(self.pool.FindMessageTypeByName("shop.v1.Order"))
        self.behaviour: Callable[[Any, Any], Any] | None = None
        self.seen: list[tuple[Any, dict[str, str]]] = []
        self.port = 0

    async def place(self, request: Any, context: Any) -> Any:
        """The method."""
        self.seen.append((request, dict(context.invocation_metadata())))
        if self.behaviour is not None:
            return await self.behaviour(request, context)
        return request

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        """How a server is given the service."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.place,
            request_deserializer=self.order.FromString,
            response_serializer=lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString(),
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Place": handler})


@asynccontextmanager
async def serving(
    shop: Shop, *, reflected: bool = True, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[Shop]:
    """The shop on loopback."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((shop.handlers,))
    if reflected:
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server, pool=shop.pool)
    if credentials is not None:
        shop.port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        shop.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield shop
    finally:
        await asyncio.wait_for(server.stop(0), 5)
