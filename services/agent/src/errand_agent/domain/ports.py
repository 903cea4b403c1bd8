"""What the loop needs from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from errand_agent.domain.runs import Budget, Step, Usage


class RunCancelled(Exception):  # noqa: N818 - not an error: someone asked for it
    """The run was cancelled while a step went on."""


class UnreadableStep(Exception):  # noqa: N818 - not an error of this version: another one wrote it
    """A remembered step is not what this version of the service would have remembered there."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; the parameters are a JSON Schema as text.

    `asks` when a person must allow each call.
    """

    name: str
    description: str
    parameters_json: str
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call the model makes; the arguments are a JSON object as text."""

    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said to a call: the call as it runs, or why it does not."""

    call: Call
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave; a failure's result is {"error": "..."}.

    `usage` is what the call cost; a call of an agent has that agent's run, what it used, and the seconds people took
    to decide in it.
    """

    result_json: str
    failed: bool = False
    duration_ms: float = 0.0
    usage: Usage = field(default_factory=Usage)
    run_id: str = ""
    paused_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document; `similarity` is a cosine, -1 to 1."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    similarity: float
    page: int | None = None
    start_offset: int = 0
    end_offset: int = 0


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user said."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """What the model said or called."""

    text: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """What a tool answered."""

    name: str
    result_json: str


Turn = UserTurn | ModelTurn | ToolTurn


@dataclass(frozen=True, slots=True)
class Thought:
    """One model step: text, calls or both; `cut_off` when a limit ended it."""

    text: str
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    cut_off: bool = False


class Model(Protocol):
    """Generates. All methods raise ErrandError."""

    async def think(
        self,
        turns: Sequence[Turn],
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec],
        may_call: bool,
        on_text: Callable[[str], Awaitable[None]],
        temperature: float = 0.0,
    ) -> Thought:
        """One model turn; `on_text` gets its text piece by piece."""
        ...

    async def count_tokens(self, texts: Sequence[str], *, model: str) -> tuple[list[int], int]:
        """Tokens of each text, and how many the model's context holds."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """A vector for each text."""
        ...


class Models(Protocol):
    """Knows the models. Raises ErrandError when the service is away."""

    async def served(self) -> frozenset[str]:
        """The names that requests may give."""
        ...


class Toolbox(Protocol):
    """Lists and runs tools. Both methods raise ErrandError when the service is away."""

    async def declared(self, names: Sequence[str]) -> list[ToolSpec]:
        """The enabled ones among these tools, in this order."""
        ...

    async def execute(
        self, call: Call, *, run_id: str, step: int, index: int, collections: Sequence[str], left: Budget | None
    ) -> ToolResult:
        """Runs a call; run, step and index name its effect. A tool that fails is a result.

        `left` is what the call may use of its run, None when that is spent.
        """
        ...


class Retriever(Protocol):
    """Finds passages. Both methods raise ErrandError."""

    async def find(self, query: str, *, collections: Sequence[str], top_k: int, min_similarity: float) -> list[Passage]:
        """Passages, best first."""
        ...

    async def check_collections(self, names: Sequence[str]) -> None:
        """Raises NotFound for one that does not exist."""
        ...


class Journal(Protocol):
    """What a run remembers across crashes."""

    async def once(
        self, name: str, work: Callable[[], Awaitable[dict[str, Any]]], *, has_effects: bool = False
    ) -> dict[str, Any]:
        """Does the work once; a replay gets what it gave. Raises RunCancelled, UnreadableStep.

        Work that `has_effects` begins when all that was done before is remembered. A crash before it is remembered
        itself has it done again, and only then what followed: it must be the same by its step's name.
        """
        ...

    async def record(self, key: str, steps: Sequence[Step]) -> None:
        """Tells of steps, soon; the same key again tells nothing."""
        ...

    async def tell(self, key: str, text: str) -> None:
        """Tells a piece of the answer."""
        ...

    async def decide(self, step: int, calls: Mapping[int, Call]) -> tuple[dict[int, Decision], float]:
        """What people said to these calls of a step, by index, and the seconds it took; waits for days."""
        ...

    async def is_cancelled(self) -> bool:
        """Whether the run shall end."""
        ...
