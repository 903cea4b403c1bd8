"""A service that cannot be reached is not asked for a while: requests fail at once instead of waiting for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import structlog
from errand_common.errors import Unavailable
from errand_common.rpc.status import DETAILS_KEY
from errand_common.telemetry.metrics import CIRCUITS_OPEN

_log = structlog.get_logger(__name__)
_FAILURES: Final = 5
_OPEN_SECONDS: Final = 2.0


class Circuit:
    """Opens after some failures in a row; then one call at a time is let through to see whether that has changed."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._tries_at = 0.0
        self._gauge = CIRCUITS_OPEN.labels(name)
        self._gauge.set(0)

    def enter(self) -> None:
        """Lets a call through; raises Unavailable while the circuit is open."""
        if self._failures < _FAILURES:
            return
        now = self._clock()
        if now < self._tries_at:
            raise Unavailable(self._name)
        # This call finds out; the others wait for what it finds.
        self._tries_at = now + _OPEN_SECONDS

    def succeeded(self) -> None:
        """The service answered, whatever it said."""
        if self._failures >= _FAILURES:
            self._gauge.set(0)
            _log.info("circuit_closed", dependency=self._name)
        self._failures = 0

    def failed(self) -> None:
        """The service could not be reached."""
        self._failures += 1
        self._tries_at = self._clock() + _OPEN_SECONDS
        if self._failures == _FAILURES:
            self._gauge.set(1)
            _log.warning("circuit_opened", dependency=self._name)


async def _note(circuit: Circuit, call: Any) -> None:
    if await call.code() is not grpc.StatusCode.UNAVAILABLE:
        circuit.succeeded()
        return
    # A service that says itself that something behind it is away has been reached.
    told = any(key == DETAILS_KEY for key, _ in await call.trailing_metadata() or ())
    (circuit.succeeded if told else circuit.failed)()


@contextmanager
def _cancelled_with(call: Any) -> Iterator[None]:
    """Ends the call when whoever waits for it gives up: it would go on unheard."""
    try:
        yield
    except BaseException:
        call.cancel()
        raise


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        self._circuit.enter()
        call = await continuation(details, request)
        with _cancelled_with(call):
            await _note(self._circuit, call)
        return call


class _Streaming(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        self._circuit.enter()
        call = await continuation(details, request)
        with _cancelled_with(call):
            # Metadata come with the first message or with the failure: a stream that has begun has been reached.
            await call.initial_metadata()
            if call.done():
                await _note(self._circuit, call)
            else:
                self._circuit.succeeded()
        return call


def guarding(circuit: Circuit) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors that ask the circuit before a call and tell it how that went; uploads are not guarded."""
    return [_Unary(circuit), _Streaming(circuit)]
