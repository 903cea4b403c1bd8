"""Sends spans to an OTLP endpoint. Nothing here may slow or fail a request.

The endpoint may come up long after the services (MLflow takes up to a minute): spans wait in a bounded
buffer and are sent in order as soon as it answers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

import httpx
import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from errand_common.telemetry.metrics import SPANS_DROPPED

BUFFERED_SPANS = 20_000
BUFFERED_BYTES = 64 * 1024 * 1024
# What a span takes beside its texts.
_SPAN_BYTES = 2_048
_LARGEST_BATCH = 512
# Masking many spans one after the other takes a third of what it takes between the work that they tell of, and a
# request takes a millisecond of the processor, however few spans it has.
_GATHER_SECONDS = 0.5
# Some 0.2 ms of the processor.
_AT_ONCE = 16
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
_FLUSH_SECONDS = 2.0
# What OTLP endpoints answer to spans that they will never take; all else is worth another try.
_REJECTIONS = frozenset({400, 413, 415, 422})

_log = structlog.get_logger(__name__)


class Delivery(Enum):
    """How sending a batch ended."""

    SENT = auto()
    REJECTED = auto()
    AWAY = auto()


class SpanSender(Protocol):
    """Sends a batch of spans; any error it raises counts as AWAY."""

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Tells how it ended."""

    def close(self) -> None:
        """Closes connections."""


class OtlpSender:
    """OTLP over HTTP as protobuf; `headers` go with each request."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._client = httpx.Client(
            headers={**headers, "content-type": "application/x-protobuf"},
            timeout=httpx.Timeout(30.0, connect=3.0),
        )

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """One request, no retry: patience is the processor's."""
        response = self._client.post(self._endpoint, content=encode_spans(spans).SerializeToString())
        if response.is_success:
            return Delivery.SENT
        return Delivery.REJECTED if response.status_code in _REJECTIONS else Delivery.AWAY

    def close(self) -> None:
        """Closes connections."""
        self._client.close()


class SpanGatherer(SpanProcessor):
    """Takes ended spans from the work that they tell of, and hands them to outlets later, many at once.

    An outlet comes with what gives the span to send for one that has ended, or None for one that is not sent.
    """

    def __init__(self, *outlets: Outlet, capacity: int = BUFFERED_SPANS) -> None:
        self._outlets = outlets
        self._capacity = capacity
        self._ended: deque[ReadableSpan] = deque()
        self._handing = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        threading.Thread(target=self._run, name="spans", daemon=True).start()

    def on_end(self, span: ReadableSpan) -> None:
        """Takes the span."""
        if len(self._ended) >= self._capacity:
            SPANS_DROPPED.inc()
            return
        self._ended.append(span)
        # Asking an event is ten times as quick as setting it, and a busy process ends spans all the time.
        if not self._wake.is_set():
            self._wake.set()

    def force_flush(self, timeout_millis: int = int(_FLUSH_SECONDS * 1000)) -> bool:
        """Sends what waits, for at most the time given at each outlet; whether nothing is left."""
        self._hand_on()
        flushed = [outlet.force_flush(timeout_millis) for outlet, _ in self._outlets]
        return all(flushed)

    def shutdown(self) -> None:
        """Sends what waits, for two seconds at most at each outlet, and ends."""
        self._hurry.set()
        self._wake.set()
        self._hand_on()
        for outlet, _ in self._outlets:
            outlet.shutdown()

    def _run(self) -> None:
        while not self._hurry.is_set():
            self._wake.wait()
            self._hurry.wait(_GATHER_SECONDS)
            self._wake.clear()
            self._hand_on()

    def _hand_on(self) -> None:
        with self._handing:
            selected: list[list[ReadableSpan]] = [[] for _ in self._outlets]
            for number in range(len(self._ended)):
                self._select(self._ended.popleft(), selected)
                if number % _AT_ONCE == 0:
                    # Requests are served by another thread, which would wait for this one's whole turn.
                    time.sleep(0)
            for (outlet, _), spans in zip(self._outlets, selected, strict=True):
                outlet.put(spans)

    def _select(self, span: ReadableSpan, selected: list[list[ReadableSpan]]) -> None:
        try:
            for (_, select), spans in zip(self._outlets, selected, strict=True):
                if (chosen := select(span)) is not None:
                    spans.append(chosen)
        except Exception as error:
            SPANS_DROPPED.inc()
            _log.warning("a span cannot be sent", span=span.name, error=type(error).__name__)


class PatientOutlet:
    """Keeps spans until the sender has taken them; drops and counts the oldest when full.

    Full are so many spans, or so many bytes: spans hold people's words.
    """

    def __init__(
        self, sender: SpanSender, *, capacity: int = BUFFERED_SPANS, capacity_bytes: int = BUFFERED_BYTES
    ) -> None:
        self._sender = sender
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        # Of what waits and what is being sent.
        self._bytes = 0
        self._waiting: deque[ReadableSpan] = deque()
        self._lock = threading.Lock()
        self._batch = _LARGEST_BATCH
        self._in_flight = 0
        self._away = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ending = False
        # What was counted as lost at the end is not counted again when its last request comes back.
        self._counted = False
        self._thread = threading.Thread(target=self._run, name="spans sent", daemon=True)
        self._thread.start()

    def put(self, spans: Sequence[ReadableSpan]) -> None:
        """Takes spans to be sent."""
        if not spans or self._ending:
            return
        with self._lock:
            self._idle.clear()
            self._waiting.extend(spans)
            self._bytes += sum(map(_size, spans))
            self._drop_oldest()
        self._wake.set()

    def force_flush(self, timeout_millis: int = int(_FLUSH_SECONDS * 1000)) -> bool:
        """Sends what waits, for at most the time given; whether nothing is left."""
        self._hurry.set()
        return self._idle.wait(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Sends what waits, for two seconds at most, and ends; what is left then is counted as dropped."""
        if self._ending:
            return
        self._ending = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(_FLUSH_SECONDS)
        with self._lock:
            lost = len(self._waiting) + self._in_flight
            self._counted = True
        if lost:
            SPANS_DROPPED.inc(lost)
            _log.warning("spans were not sent before the end", spans=lost)

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait()
            self._wake.clear()
            self._drain()
        self._sender.close()

    def _drain(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while batch := self._take():
            if self._deliver(batch):
                pause = _FIRST_PAUSE_SECONDS
                continue
            if self._ending:
                return
            if self._hurry.wait(pause):
                self._hurry.clear()
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        if not self._ending:
            self._hurry.clear()

    def _take(self) -> list[ReadableSpan]:
        with self._lock:
            if not self._waiting:
                self._idle.set()
            self._in_flight = min(self._batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(self._in_flight)]

    def _deliver(self, batch: list[ReadableSpan]) -> bool:
        try:
            delivery = self._sender.send(batch)
        except Exception as error:
            return self._failed(batch, type(error).__name__)
        if delivery is Delivery.AWAY:
            return self._failed(batch, "refused for now")
        self._found()
        if delivery is Delivery.SENT:
            self._batch = min(self._batch * 2, _LARGEST_BATCH)
            self._forget(batch)
        elif len(batch) > 1:
            # One bad span spoils its batch: alone, each is taken or dropped for its own sake.
            self._batch = 1
            self._put_back(batch)
        else:
            self._forget(batch)
            SPANS_DROPPED.inc()
            _log.warning("a span was rejected", span=batch[0].name)
        return True

    def _failed(self, batch: list[ReadableSpan], reason: str) -> bool:
        self._put_back(batch)
        if not self._away:
            self._away = True
            _log.warning("spans cannot be sent; they wait", reason=reason)
        return False

    def _found(self) -> None:
        if self._away:
            self._away = False
            _log.info("spans are sent again")

    def _put_back(self, batch: list[ReadableSpan]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            self._in_flight = 0
            self._drop_oldest()

    def _forget(self, batch: list[ReadableSpan]) -> None:
        with self._lock:
            self._bytes -= sum(map(_size, batch))
            self._in_flight = 0

    def _drop_oldest(self) -> None:
        """What is being sent takes room too."""
        while self._waiting and (
            len(self._waiting) + self._in_flight > self._capacity or self._bytes > self._capacity_bytes
        ):
            self._bytes -= _size(self._waiting.popleft())
            if not self._counted:
                SPANS_DROPPED.inc()


Outlet = tuple[PatientOutlet, Callable[[ReadableSpan], ReadableSpan | None]]


def _size(span: ReadableSpan) -> int:
    """About how many bytes a span holds on to."""
    return _SPAN_BYTES + sum(len(value) for value in (span.attributes or {}).values() if isinstance(value, str))
