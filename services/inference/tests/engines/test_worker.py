"""The engine process's batch, beside a pipeline that does what it is told: who is computed when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from errand_inference.engines import openvino_worker
from errand_inference.engines.openvino_worker import Worker
from errand_inference.engines.wire import Cancel, Command, Event, Start

SHARED = tuple(range(100, 500))


class Handle:
    """A generation that is read for `reading` steps and then gives one token a step."""

    def __init__(self, reading: int, tokens: int) -> None:
        self.reading, self.left, self.told = reading, tokens, 0
        self.cancelled = False

    def step(self) -> None:
        if self.reading:
            self.reading -= 1
        elif self.left:
            self.left, self.told = self.left - 1, self.told + 1

    def can_read(self) -> bool:
        return self.told > 0

    def read(self) -> dict[int, Any]:
        ids, self.told = [7] * self.told, 0
        reason = openvino_worker.genai.GenerationFinishReason
        finish = reason.NONE if self.left else reason.LENGTH
        return {0: SimpleNamespace(generated_ids=ids, finish_reason=finish, generated_log_probs=[])}

    def get_status(self) -> object:
        return openvino_worker._RUNNING

    def cancel(self) -> None:
        self.cancelled = True


class Pipeline:
    def __init__(self) -> None:
        self.handles: dict[int, Handle] = {}
        self.begun: list[tuple[int, int]] = []
        self.steps = 0

    def add_request(self, id: int, _: object, config: object) -> Handle:
        self.begun.append((id, self.steps))
        self.handles[id] = Handle(reading=3, tokens=4)
        return self.handles[id]

    def step(self) -> None:
        self.steps += 1
        for handle in self.handles.values():
            handle.step()


class EndedError(Exception):
    pass


class Wire:
    """Gives all commands before the first step, more when it has nothing else; ends when all is done.

    With a `gap` a command is only there for who waits for it.
    """

    def __init__(self, *commands: Command, gap: bool = False) -> None:
        self.commands, self.events = list(commands), list[Event]()
        self.gap, self.waits = gap, list[float]()

    def poll(self, timeout: float | None) -> bool:
        if timeout is None and not self.commands:
            raise EndedError
        self.waits.append(timeout or 0.0)
        return bool(self.commands) and (timeout != 0 or not self.gap)

    def recv(self) -> Command:
        return self.commands.pop(0)

    def send(self, events: list[Event]) -> None:
        self.events += events


def start(id: int, prompt: tuple[int, ...]) -> Start:
    return Start(id, prompt, (1,), 4, 0.0, 1.0, 0)


def run(*commands: Command, gap: bool = False) -> tuple[Pipeline, Wire]:
    pipeline, wire = Pipeline(), Wire(*commands, gap=gap)
    with pytest.raises(EndedError):
        Worker(pipeline, wire).run()  # type: ignore[arg-type]
    return pipeline, wire


def test_of_many_cold_requests_with_one_prefix_the_first_reads_it_and_the_others_wait() -> None:
    pipeline, wire = run(*(start(number, (*SHARED, number)) for number in range(8)))
    assert [id for id, _ in pipeline.begun] == list(range(8))
    # Three steps read the first prompt, the fourth gives its first token: then all others begin at once.
    assert [step for _, step in pipeline.begun] == [0, *[4] * 7]
    assert {event.id for event in wire.events} == set(range(8))


@pytest.mark.parametrize(
    ("first", "second"),
    [(SHARED, tuple(reversed(SHARED))), (SHARED[:100], (*SHARED[:100], 1))],
    ids=["other prefix", "short prefix"],
)
def test_who_would_save_little_does_not_wait(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    pipeline, _ = run(start(1, first), start(2, second))
    assert pipeline.begun == [(1, 0), (2, 0)]


def test_who_comes_a_moment_after_the_first_begins_with_it() -> None:
    pipeline, wire = run(*(start(number, (number,)) for number in range(8)), gap=True)
    assert pipeline.begun == [(number, 0) for number in range(8)]
    # Nobody waits long for those who may come, and not at all beside one that runs.
    assert max(wire.waits) <= 0.03
    assert wire.waits.count(0.0) >= pipeline.steps - 1


def test_who_waits_may_leave_and_is_never_begun() -> None:
    pipeline, _ = run(start(1, (*SHARED, 1)), start(2, (*SHARED, 2)), Cancel(2))
    assert [id for id, _ in pipeline.begun] == [1]


def test_when_the_one_who_reads_leaves_the_next_reads() -> None:
    pipeline, _ = run(start(1, (*SHARED, 1)), start(2, (*SHARED, 2)), start(3, (*SHARED, 3)), Cancel(1))
    assert [id for id, _ in pipeline.begun] == [2, 3]
    (_, second), (_, third) = pipeline.begun
    assert second < third


def test_a_common_beginning_is_measured() -> None:
    common = openvino_worker._common_prefix
    assert common(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common(np.array([1, 2]), np.array([1, 2, 4])) == 2
