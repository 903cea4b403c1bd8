"""A deterministic engine for tests of everything around a model.

It answers by the first rule whose pattern is found in the prompt's last user turn and results, and by
nothing else; so a test states what "the model" does, and real services do the rest.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from errand_common.errors import Unavailable

from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for


@dataclass(frozen=True, slots=True)
class ScriptRule:
    """When `pattern` is found in the prompt, `output` is generated, \\1 standing for its group 1."""

    pattern: str
    output: str


class ScriptedEngine:
    """Generates what its rules say, a word a token; `seconds_per_token` makes it slow.

    The share `failure_rate` of generations fails with Unavailable, drawn by `seed`.
    """

    name = "scripted"
    precision = "none"
    is_alive = True
    capabilities = frozenset({Capability.STREAMING, Capability.EXACT_TOKENS})

    def __init__(
        self,
        rules: Sequence[ScriptRule],
        *,
        context_tokens: int = 4096,
        seconds_per_token: float = 0.0,
        failure_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.context_tokens = context_tokens
        self._rules = [(re.compile(rule.pattern, re.DOTALL), rule.output) for rule in rules]
        self._pause = seconds_per_token
        self._failure_rate, self._random = failure_rate, random.Random(seed)  # noqa: S311 - no secret
        self.asked = 0

    @classmethod
    def from_file(cls, path: Path) -> ScriptedEngine:
        """Reads `[{"pattern": …, "output": …}]`."""
        return cls([ScriptRule(**rule) for rule in json.loads(path.read_text(encoding="utf-8"))])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(_pieces(text)) for text in texts]

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Nothing at all when no rule fits; raises InvalidArgument when the prompt leaves no room."""
        self.asked += 1
        if self._random.random() < self._failure_rate:
            raise Unavailable("model", "The script lets this generation fail.")
        prompt_tokens = len(_pieces(request.prompt))
        room = room_for(request, prompt_tokens, self.context_tokens)
        pieces = _pieces(_until_stop(self._output(request.prompt), request.stop))
        for position, piece in enumerate(pieces[:room]):
            await asyncio.sleep(self._pause)
            ended = position + 1 == len(pieces)
            full = position + 1 == room
            yield Delta(piece, 1, Finish.STOP if ended else Finish.LENGTH if full else None, prompt_tokens)
        if not pieces:
            yield Delta("", 0, Finish.STOP, prompt_tokens)

    def _output(self, prompt: str) -> str:
        latest = prompt[prompt.rfind("<start_of_turn>user") :]
        for pattern, output in self._rules:
            if match := pattern.search(latest):
                return match.expand(output)
        return ""

    async def close(self) -> None:
        """Nothing to free."""


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


def _until_stop(text: str, stop: Sequence[str]) -> str:
    return text[: min((position for end in stop if (position := text.find(end)) >= 0), default=len(text))]
