"""gRPC for tools: methods found by reflection, every address checked and then dialled as it was checked."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Final

import grpc
from errand_common.http import Reach
from errand_common.rpc.spans import traced_call
from errand_common.telemetry.tracing import told_to_others
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.trace import Span
from ssrfguard import Address, Resolver, SSRFGuardError, resolve

from errand_tools.clients.descriptors import Method, Methods, in_order
from errand_tools.clients.http import NO_HEADERS, denial
from errand_tools.domain.tools import (
    CallContext,
    ExecutionStatus,
    GrpcBinding,
    JsonObject,
    OutcomeUnknown,
    ServiceDown,
    ToolFailed,
    ToolNotFound,
)

MAX_RESPONSE_BYTES: Final = 1024 * 1024
MAX_DESCRIPTOR_BYTES: Final = 512 * 1024
MAX_FILES: Final = 64
_CONNECT_SECONDS: Final = 5.0
_DESCRIBE_SECONDS: Final = 10.0
_MAX_CHANNELS: Final = 64
_IDLE_SECONDS: Final = 300.0
_OPTIONS: Final = (
    # An ambient proxy would resolve the name anew, past the guard.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    # A retry inside the library could repeat an effect.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_TOO_LARGE: Final = "larger than max"
# Answers of a server that surely did not do it.
_REFUSED: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.ABORTED,
    }
)


@dataclass(slots=True)
class _Channel:
    channel: grpc.aio.Channel
    used_at: float


class GuardedGrpcCaller:
    """Calls tenants' gRPC tools. `roots` are certificates to trust instead of the usual ones, PEM."""

    def __init__(self, reach: Reach, *, roots: bytes | None = None, resolver: Resolver | None = None) -> None:
        self._policy = reach.policy(redirects=0)
        self._credentials = grpc.ssl_channel_credentials(roots)
        self._resolver = resolver
        self._open: OrderedDict[tuple[str, bool, str], _Channel] = OrderedDict()
        self._methods = Methods()

    async def close(self) -> None:
        """Closes the connections."""
        while self._open:
            _, kept = self._open.popitem()
            await kept.channel.close()

    async def describe(
        self, binding: GrpcBinding, *, headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[JsonObject, bytes]:
        """JSON Schema of the method's arguments, and its descriptors to keep. Raises ToolError."""
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                channel = await self._connected(binding)
                files = await _reflected(channel, binding.method, _metadata(headers))
        except TimeoutError:
            raise ServiceDown("The server did not tell its methods in time.") from None
        except grpc.aio.AioRpcError as error:
            raise _reflection_failure(error) from None
        method = Method(in_order(files), binding.method)
        return method.parameters, method.artifact

    async def call(
        self,
        binding: GrpcBinding,
        artifact: bytes,
        arguments: JsonObject,
        context: CallContext,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Any:
        """The answer as JSON.

        Raises ToolError when the call surely failed, OutcomeUnknown when its answer was lost.
        """
        method = self._methods.of(binding.artifact, lambda: artifact, binding.method)
        request = method.encode(arguments)
        channel = await self._connected(binding)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)

        async def begin(span: Span) -> Any:
            metadata = _metadata({**headers, **told_to_others(span)})
            return call(request, timeout=context.timeout_seconds, metadata=metadata)

        try:
            answer: bytes = await (await traced_call(begin, method.path))
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
        return method.decode(answer)

    async def _connected(self, binding: GrpcBinding) -> grpc.aio.Channel:
        """A channel to a checked address that answers. Raises ToolDenied, ServiceDown: nothing was sent then."""
        channel = await self._channel(binding)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await channel.channel_ready()
        except TimeoutError:
            raise ServiceDown("The service cannot be reached.") from None
        return channel

    async def _channel(self, binding: GrpcBinding) -> grpc.aio.Channel:
        await self._close_idle()
        address = await self._address(binding)
        where = _dialled(address)
        key = (binding.target, binding.plaintext, where)
        kept = self._open.get(key)
        if kept is None:
            channel = self._dial(where, address.hostname, binding)
            kept = self._open[key] = _Channel(channel, 0.0)
            if len(self._open) > _MAX_CHANNELS:
                _, oldest = self._open.popitem(last=False)
                await oldest.channel.close(grace=_CONNECT_SECONDS)
        self._open.move_to_end(key)
        kept.used_at = time.monotonic()
        return kept.channel

    async def _close_idle(self) -> None:
        before = time.monotonic() - _IDLE_SECONDS
        for key in [key for key, kept in self._open.items() if kept.used_at < before]:
            await self._open.pop(key).channel.close()

    async def _address(self, binding: GrpcBinding) -> Address:
        try:
            target = self._policy.check_url(binding.url)
            async with asyncio.timeout(_CONNECT_SECONDS):
                addresses = await asyncio.to_thread(resolve, target, policy=self._policy, resolver=self._resolver)
        except SSRFGuardError as error:
            raise denial(error) from None
        except (OSError, TimeoutError, UnicodeError):
            raise ServiceDown("The service cannot be reached.") from None
        return addresses[0]

    def _dial(self, where: str, host: str, binding: GrpcBinding) -> grpc.aio.Channel:
        options = (*_OPTIONS, ("grpc.default_authority", binding.target))
        if binding.plaintext:
            return grpc.aio.insecure_channel(where, options)
        # The address is dialled and the certificate is the name's.
        return grpc.aio.secure_channel(where, self._credentials, (*options, ("grpc.ssl_target_name_override", host)))


def _dialled(address: Address) -> str:
    if isinstance(address.ip, IPv6Address):
        return f"ipv6:[{address.ip}]:{address.port}"
    return f"ipv4:{address.ip}:{address.port}"


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers.items())


async def _reflected(
    channel: grpc.aio.Channel, method: str, metadata: tuple[tuple[str, str], ...]
) -> list[descriptor_pb2.FileDescriptorProto]:
    """The file that tells the method, and all it imports."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # its types know no aio
    reading = _Reading(stub.ServerReflectionInfo, metadata)
    # Every server knows its services by name, and not all their methods.
    service = method.partition("/")[0]
    await reading.ask(reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
    while missing := reading.missing():
        await reading.ask(reflection_pb2.ServerReflectionRequest(file_by_filename=missing))
    return list(reading.files.values())


class _Reading:
    """Files of a server within bounds, one question a call."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata
        self._left = MAX_DESCRIPTOR_BYTES
        self._asked: set[str] = set()
        self.files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def missing(self) -> str:
        """A file that another one imports and nobody told yet; empty for none. Raises ToolFailed over the bounds."""
        wanted = {name for file in self.files.values() for name in file.dependency}
        left = sorted(wanted - self.files.keys() - self._asked)
        if len(self._asked) > MAX_FILES:
            raise ToolFailed(f"The server's method needs more than {MAX_FILES} files.")
        return left[0] if left else ""

    async def ask(self, request: reflection_pb2.ServerReflectionRequest) -> None:
        """Adds what the server tells. Raises ToolFailed, ToolNotFound for what it does not know."""
        self._asked.add(request.file_by_filename)

        async def one() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield request

        call = self._stub(one(), metadata=self._metadata)
        async for response in call:
            if response.HasField("error_response"):
                raise ToolNotFound("The server does not know this service; write the method as package.Service/Method.")
            self._add(response.file_descriptor_response.file_descriptor_proto)
            break
        call.cancel()

    def _add(self, files: Any) -> None:
        for data in files:
            self._left -= len(data)
            if self._left < 0 or len(self.files) >= MAX_FILES:
                raise ToolFailed("The server's descriptors are too large.")
            file = descriptor_pb2.FileDescriptorProto()
            try:
                file.ParseFromString(data)
            except DecodeError:
                raise ToolFailed("The server's descriptors cannot be read.") from None
            self.files.setdefault(file.name, file)


def _reflection_failure(error: grpc.aio.AioRpcError) -> Exception:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return ToolFailed("The server does not offer reflection, so its methods are not known.")
    return ServiceDown(f"The server did not tell its methods ({error.code().name}).")


def _failure(error: grpc.aio.AioRpcError) -> Exception:
    code, told = error.code(), (error.details() or "")[:200].strip().rstrip(".")
    message = f"The service answered {code.name}{': ' + told if told else ''}."
    if code is grpc.StatusCode.NOT_FOUND:
        return ToolNotFound(message)
    if code in _REFUSED:
        return ToolFailed(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE not in told:
        return ServiceDown(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OutcomeUnknown("The service's answer is too large.", status=ExecutionStatus.FAILED)
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED
    status = ExecutionStatus.TIMED_OUT if timed_out else ExecutionStatus.FAILED
    lost = "The service did not answer in time." if timed_out else "The connection to the service failed."
    return OutcomeUnknown(lost if timed_out or not told else message, status=status)
