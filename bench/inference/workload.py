"""What every peer is asked: an agent's prompts, the same tools before every question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from errand_inference.domain.format import render_prefix
from tokenizers import Tokenizer

SHARED_TOKENS, OWN_TOKENS, NEW_TOKENS = 800, 60, 48


@dataclass
class Workload:
    """Prompts as text for the service and as ids for the others; no prompt is asked twice of the same peer."""

    tokenizer: Tokenizer
    instructions: str
    round: int = 0

    @classmethod
    def of(cls, folder: Path) -> Workload:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        words = "convert the value of kilometres and tell the weather "
        text = words
        while len(tokenizer.encode(render_prefix(text, ())).ids) < SHARED_TOKENS:
            text += words
        return cls(tokenizer, text)

    def prompts(self, count: int) -> list[str]:
        self.round += 1
        return [self._own(f"{self.round} {number} ") for number in range(count)]

    def _own(self, text: str) -> str:
        while len(self.tokenizer.encode(text).ids) < OWN_TOKENS:
            text += "now what "
        return text

    def text(self, prompt: str) -> str:
        """The prompt as the service renders it."""
        return (
            f"{render_prefix(self.instructions, ())}<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n"
        )

    def ids(self, prompt: str) -> list[int]:
        return list(self.tokenizer.encode(self.text(prompt), add_special_tokens=False).ids)

    def cold(self) -> Workload:
        """A workload whose shared part nobody has seen."""
        self.round += 1
        return Workload(self.tokenizer, f"{self.round} {self.instructions}", self.round)
