"""What the service and its engine process say to each other. Plain data: neither side imports the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenVinoOptions:
    """How the pipeline is built. `cache_gigabytes` bounds the KV cache; 0 threads takes all.

    `compute` is f32, bf16, or "fastest": bf16 where the processor has it.
    """

    cache_gigabytes: int = 1
    max_batch: int = 64
    max_batched_tokens: int = 2048
    threads: int = 0
    compute: str = "f32"


@dataclass(frozen=True, slots=True)
class Load:
    """The first thing that an engine process is told: what it runs."""

    folder: str
    options: OpenVinoOptions


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a generation; an empty `ebnf` leaves it free. Without `streamed` its tokens are told some at a time."""

    id: int
    prompt_ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    ebnf: str = ""
    streamed: bool = True
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a generation; unknown ids are ignored, it may just have ended."""

    id: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded; the process ends."""

    message: str


@dataclass(frozen=True, slots=True)
class Output:
    """Tokens of one generation after one step. `finish` is "stop", "length" or empty."""

    id: int
    ids: tuple[int, ...]
    finish: str = ""
    cached_tokens: int = 0
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A generation ended by an error. `rejected` when its grammar was not accepted."""

    id: int
    message: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """The process ends, as its pipeline is broken: what is sent to it now would be lost."""


Command = Start | Cancel
Event = Output | Failed
