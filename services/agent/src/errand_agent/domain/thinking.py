"""One model step: tried again while the model is away, then with the models to fall back on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from errand_common.errors import ErrandError, ModelUnavailable, Unavailable

from errand_agent.domain.agents import Agent
from errand_agent.domain.observing import RunObserver
from errand_agent.domain.ports import Journal, Model, Thought, ToolSpec, Turn
from errand_agent.domain.retries import RETRYABLE, retried
from errand_agent.domain.runs import StepKind

# Trying the same model again would not help, another one does.
_ELSEWHERE = (*RETRYABLE, ModelUnavailable)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is shown in one step."""

    turns: Sequence[Turn]
    instructions: str
    tools: Sequence[ToolSpec]
    may_call: bool


@dataclass(slots=True)
class _Voice:
    """Tells an answer piece by piece, of the first attempt that says anything: readers cannot unread."""

    journal: Journal
    key: str
    _speaker: int = 0
    _attempts: int = 0

    def begin(self) -> Callable[[str], Awaitable[None]]:
        """What the next attempt says goes here."""
        self._attempts += 1
        attempt = self._attempts

        async def tell(text: str) -> None:
            self._speaker = self._speaker or attempt
            if self._speaker == attempt:
                await self.journal.tell(self.key, text)

        return tell


@dataclass(frozen=True, slots=True)
class Thinker:
    """Asks an agent's models."""

    agent: Agent
    model: Model
    journal: Journal
    observer: RunObserver

    async def think(self, prompt: Prompt, *, key: str, step: str, models: Sequence[str], deadline: float) -> Thought:
        """The turn of the first of the models that gives one. Raises what the last one raised."""
        last: ErrandError | None = None
        voice = _Voice(self.journal, key)
        for model in models:
            try:
                return await self._asked(prompt, voice, step, model, deadline)
            except _ELSEWHERE as error:
                last = error
                if time.time() > deadline or await self.journal.is_cancelled():
                    break
        raise last or Unavailable("inference")

    async def _asked(self, prompt: Prompt, voice: _Voice, step: str, model: str, deadline: float) -> Thought:
        """The model's turn, tried again while it is away, busy or late."""

        async def attempt(number: int) -> Thought:
            with self.observer.step(StepKind.THINK, f"{step}.{number}", {"turns": prompt.turns}) as span:
                thought = await self._turn(prompt, model, voice.begin())
                span(thought)
                return thought

        return await retried(attempt, self.journal, deadline)

    async def _turn(self, prompt: Prompt, model: str, on_text: Callable[[str], Awaitable[None]]) -> Thought:
        return await self.model.think(
            prompt.turns,
            model=model,
            instructions=prompt.instructions,
            tools=prompt.tools,
            may_call=prompt.may_call and bool(prompt.tools),
            on_text=on_text,
            temperature=self.agent.temperature,
        )
