"""Messages of a gRPC method as JSON Schema, and the method's descriptors as bytes that can be kept."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message

from errand_tools.domain.schema import MAX_EXPANDED_NODES
from errand_tools.domain.tools import ExecutionStatus, JsonObject, OutcomeUnknown, ToolFailed

MAX_DEPTH: Final = 8
_KEPT_POOLS: Final = 256
_F = FieldDescriptor

_INT32: Final[JsonObject] = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_UINT32: Final[JsonObject] = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_INT64: Final[JsonObject] = {"type": "integer"}
_UINT64: Final[JsonObject] = {"type": "integer", "minimum": 0}
_NUMBER: Final[JsonObject] = {"type": "number"}
_SCALARS: Final[Mapping[int, JsonObject]] = MappingProxyType(
    {
        _F.TYPE_DOUBLE: _NUMBER,
        _F.TYPE_FLOAT: _NUMBER,
        _F.TYPE_INT64: _INT64,
        _F.TYPE_SINT64: _INT64,
        _F.TYPE_SFIXED64: _INT64,
        _F.TYPE_UINT64: _UINT64,
        _F.TYPE_FIXED64: _UINT64,
        _F.TYPE_INT32: _INT32,
        _F.TYPE_SINT32: _INT32,
        _F.TYPE_SFIXED32: _INT32,
        _F.TYPE_UINT32: _UINT32,
        _F.TYPE_FIXED32: _UINT32,
        _F.TYPE_BOOL: {"type": "boolean"},
        _F.TYPE_STRING: {"type": "string"},
        _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    }
)
# What protobuf's JSON makes of its well-known types.
_WELL_KNOWN: Final[Mapping[str, JsonObject]] = MappingProxyType(
    {
        "google.protobuf.Timestamp": {"type": "string", "description": "Time such as 2026-01-31T12:00:00Z"},
        "google.protobuf.Duration": {"type": "string", "description": "Seconds such as 3.5s"},
        "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, with commas"},
        "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
        "google.protobuf.Value": {},
        "google.protobuf.ListValue": {"type": "array"},
        "google.protobuf.Empty": {"type": "object", "properties": {}},
        "google.protobuf.DoubleValue": _NUMBER,
        "google.protobuf.FloatValue": _NUMBER,
        "google.protobuf.Int64Value": _INT64,
        "google.protobuf.UInt64Value": _UINT64,
        "google.protobuf.Int32Value": _INT32,
        "google.protobuf.UInt32Value": _UINT32,
        "google.protobuf.BoolValue": {"type": "boolean"},
        "google.protobuf.StringValue": {"type": "string"},
        "google.protobuf.BytesValue": {"type": "string", "contentEncoding": "base64"},
    }
)


class Method:
    """A unary method over descriptors of its own, which no other tool shares."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto], name: str) -> None:
        """Raises ToolFailed when the files do not tell the method, or it streams."""
        self._files = list(files)
        pool = descriptor_pool.DescriptorPool()
        try:
            for file in self._files:
                pool.Add(file)
            found: MethodDescriptor = pool.FindMethodByName(name.replace("/", "."))
        except (KeyError, TypeError) as error:
            raise ToolFailed(f"The server has no method {name} that can be read.") from error
        if found.client_streaming or found.server_streaming:
            raise ToolFailed(f"The method {name} streams; only unary methods can be tools.")
        self.path = f"/{name}"
        self._input = found.input_type
        self._request: Callable[[], Message] = message_factory.GetMessageClass(found.input_type)
        self._response: Callable[[], Message] = message_factory.GetMessageClass(found.output_type)

    @property
    def parameters(self) -> JsonObject:
        """JSON Schema of the arguments. Raises ToolFailed for messages that no schema can bound."""
        return _Schema().of(self._input)

    @property
    def artifact(self) -> bytes:
        """The descriptors, for `method_of`; equal for equal files."""
        ordered = sorted(self._files, key=lambda file: file.name)
        return descriptor_pb2.FileDescriptorSet(file=ordered).SerializeToString(deterministic=True)

    def encode(self, arguments: JsonObject) -> bytes:
        """The request. Raises ToolFailed for what the message does not take."""
        try:
            return json_format.ParseDict(arguments, self._request(), max_recursion_depth=32).SerializeToString()
        except (json_format.ParseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = str(error).split("\n", maxsplit=1)[0][:200].rstrip(".")
            raise ToolFailed(f"The arguments do not fit the method's message: {reason}.") from None

    def decode(self, data: bytes) -> Any:
        """The answer as JSON. Raises OutcomeUnknown for bytes that are no such message: the method was called."""
        message = self._response()
        try:
            message.ParseFromString(data)
            return json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        except (DecodeError, json_format.SerializeToJsonError, ValueError, TypeError, RecursionError):
            raise OutcomeUnknown("The service's answer cannot be read.", status=ExecutionStatus.FAILED) from None


class Methods:
    """Methods of kept descriptors, the ones used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Method] = OrderedDict()

    def of(self, sha256: str, artifact: Callable[[], bytes], name: str) -> Method:
        """The method over the bytes of that hash. Raises ToolFailed."""
        key = (sha256, name)
        method = self._kept.get(key)
        if method is None:
            method = self._kept[key] = method_of(artifact(), name)
            if len(self._kept) > _KEPT_POOLS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return method


def method_of(artifact: bytes, name: str) -> Method:
    """The method over kept descriptors. Raises ToolFailed."""
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(artifact)
    except DecodeError:
        raise ToolFailed("The tool's descriptors cannot be read; register the tool again.") from None
    return Method(in_order(files.file), name)


def in_order(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Each file after those it imports, as a pool wants them."""
    named = {file.name: file for file in files}
    ordered: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    opened: set[str] = set()

    def add(name: str) -> None:
        if name not in named or name in opened:
            return
        opened.add(name)
        for dependency in named[name].dependency:
            add(dependency)
        ordered[name] = named[name]

    for name in named:
        add(name)
    return list(ordered.values())


class _Schema:
    """Writes messages out, every one in its place, within a bound: a few lines that nest double at each level."""

    def __init__(self) -> None:
        self._left = MAX_EXPANDED_NODES

    def of(self, message: Descriptor, above: tuple[str, ...] = ()) -> JsonObject:
        """The schema of a message that stands in those above it. Raises ToolFailed."""
        if message.full_name in above:
            raise ToolFailed(f"The message {message.full_name} holds itself; such messages have no bounded schema.")
        if len(above) >= MAX_DEPTH:
            raise ToolFailed(f"The messages are nested deeper than {MAX_DEPTH} levels.")
        inside = (*above, message.full_name)
        properties = {field.name: self._field(field, inside) for field in message.fields}
        required = [field.name for field in message.fields if field.is_required]
        schema: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    def _field(self, field: FieldDescriptor, above: tuple[str, ...]) -> JsonObject:
        self._left -= 1
        if self._left < 0:
            raise ToolFailed(f"The method's messages have more than {MAX_EXPANDED_NODES} fields, written out.")
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._value(message.fields_by_name["value"], above)}
        value = self._value(field, above)
        return {"type": "array", "items": value} if field.is_repeated else value

    def _value(self, field: FieldDescriptor, above: tuple[str, ...]) -> JsonObject:
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        if field.message_type is None:
            return dict(_SCALARS[field.type])
        known = _WELL_KNOWN.get(field.message_type.full_name)
        if known is not None:
            return dict(known)
        if field.message_type.full_name == "google.protobuf.Any":
            raise ToolFailed(f"The field {field.name} may hold any message; such fields have no schema.")
        return self.of(field.message_type, above)
