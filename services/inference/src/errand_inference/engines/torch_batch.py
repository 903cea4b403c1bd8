"""The batch of the transformers engine: rows join and leave between two steps, each with its own length.

A row's tokens end at the right edge; what is missing on its left is masked, and its positions count its own tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llguidance
import llguidance.numpy
import torch
from errand_common.errors import InvalidArgument
from torch.nn.functional import pad
from transformers import DynamicCache

from errand_inference.domain.dialects import to_lark
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.grammar import Grammar


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token of a row and the natural logarithm of its probability among those that were allowed."""

    token: int
    logprob: float = 0.0


class Chooser:
    """Masks what the grammar forbids, then takes the best token or draws one; what is forced is not drawn."""

    def __init__(self, request: EngineRequest, vocabulary: Any) -> None:
        """Raises InvalidArgument for a grammar that is not accepted."""
        self._request = request
        self._matcher = _matcher(request.grammar, vocabulary) if request.grammar is not None else None
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary.vocab_size)
        self._random = torch.Generator().manual_seed(request.seed or 0)

    def choose(self, logits: torch.Tensor) -> Chosen:
        """The next token; `logits` (vocabulary), which are changed, are those behind the last one."""
        if self._matcher is not None:
            llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask, 0)
            llguidance.numpy.apply_token_bitmask_inplace(logits.numpy()[None, :], self._mask)
        token = self._draw(logits)
        if self._matcher is not None:
            self._matcher.consume_token(token)
        return Chosen(token, float(logits.log_softmax(-1)[token]) if self._request.logprobs else 0.0)

    def forced(self) -> list[int]:
        """The tokens that the grammar leaves no choice about now; each is certain."""
        if self._matcher is None:
            return []
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def take(self, tokens: Sequence[int]) -> None:
        """Goes on behind forced tokens."""
        if tokens and self._matcher is not None:
            self._matcher.consume_tokens(list(tokens))

    def _draw(self, logits: torch.Tensor) -> int:
        if self._request.temperature == 0:
            return int(logits.argmax())
        weights = torch.softmax(logits / self._request.temperature, dim=-1)
        ordered, order = weights.sort(descending=True)
        # The smallest set of tokens whose mass reaches top_p (Holtzman et al. 2020).
        ordered[ordered.cumsum(0) - ordered >= self._request.top_p] = 0
        return int(order[torch.multinomial(ordered, 1, generator=self._random)])


def _matcher(grammar: Grammar, vocabulary: Any) -> Any:
    matcher = llguidance.LLMatcher(vocabulary, to_lark(grammar))
    if problem := matcher.get_error():
        raise InvalidArgument(f"tools: the grammar of this request is not accepted ({problem}).", field="tools")
    return matcher


@dataclass(slots=True, eq=False)
class Row:
    """One generation. `tell` is given its tokens, or what went wrong; it returns whether the row goes on."""

    ids: Sequence[int]
    chooser: Chooser
    tell: Callable[[Sequence[Chosen] | Exception], bool]
    cancelled: threading.Event


class Batch:
    """The rows that run. Not for several threads."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self.rows: list[Row] = []
        self._cache = DynamicCache()
        # (rows, length): 1 where a row has a token.
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=device)
        self._logits = torch.zeros((0, 0))

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Reads the prompts of new rows, together."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, longest - len(row.ids) :] = torch.tensor(list(row.ids))
            mask[index, longest - len(row.ids) :] = 1
        cache, mask = DynamicCache(), mask.to(self._device)
        logits = self._read(ids.to(self._device), mask, cache)
        self._join(list(rows), cache, mask, logits)

    @torch.inference_mode()
    def step(self) -> None:
        """A token, or as many as every row is forced to, for each row; rows that ended leave."""
        chosen = [
            [] if row.cancelled.is_set() else [row.chooser.choose(logits)]
            for row, logits in zip(self.rows, self._logits, strict=True)
        ]
        told = [bool(tokens) and row.tell(tokens) for row, tokens in zip(self.rows, chosen, strict=True)]
        self._keep([index for index, goes_on in enumerate(told) if goes_on])
        if not self.rows:
            return
        going_on = [tokens for tokens, goes_on in zip(chosen, told, strict=True) if goes_on]
        taken = [[*tokens, *forced] for tokens, forced in zip(going_on, self._forced(), strict=True)]
        new = torch.tensor([[one.token for one in tokens] for tokens in taken], device=self._device)
        self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        self._logits = self._read(new, self._mask, self._cache)

    def _forced(self) -> list[list[Chosen]]:
        """So many tokens for each row as the grammar forces on all: they cost one step together.

        A row that ends among them is left behind it by the next step.
        """
        forced = [row.chooser.forced() for row in self.rows]
        shared = min(map(len, forced))
        taken = [[Chosen(token) for token in tokens[:shared]] for tokens in forced]
        for row, tokens in zip(self.rows, taken, strict=True):
            row.chooser.take([one.token for one in tokens])
            if tokens and not row.tell(tokens):
                row.cancelled.set()
        return taken

    def _read(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Logits (rows, vocabulary) behind the last of the new ids, on the processor."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float().cpu()
        return logits

    def _join(self, rows: list[Row], cache: DynamicCache, mask: torch.Tensor, logits: torch.Tensor) -> None:
        if not self.rows:
            self.rows, self._cache, self._mask, self._logits = rows, cache, mask, logits
            return
        longest = max(self._mask.shape[1], mask.shape[1])
        layers: list[Any] = self._cache.layers
        joining: list[Any] = cache.layers
        for mine, new in zip(layers, joining, strict=True):
            mine.keys = torch.cat([_lengthened(part, longest) for part in (mine.keys, new.keys)])
            mine.values = torch.cat([_lengthened(part, longest) for part in (mine.values, new.values)])
        self._mask = torch.cat([pad(part, (longest - part.shape[1], 0)) for part in (self._mask, mask)])
        self._logits = torch.cat([self._logits, logits])
        self.rows += rows

    def _keep(self, indices: list[int]) -> None:
        """Drops the other rows, and the columns that only they needed."""
        if len(indices) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in indices]
        if not indices:
            self.clear()
            return
        kept = torch.tensor(indices, device=self._device)
        self._mask = self._mask[kept]
        unused = int(self._mask.argmax(1).min())
        self._mask = self._mask[:, unused:]
        self._logits = self._logits[indices]
        layers: list[Any] = self._cache.layers
        for layer in layers:
            layer.keys, layer.values = layer.keys[kept, :, unused:], layer.values[kept, :, unused:]

    def clear(self) -> list[Row]:
        """Forgets all rows and returns them."""
        rows, self.rows = self.rows, []
        self._cache = DynamicCache()
        self._mask, self._logits = self._mask[:0], self._logits[:0]
        return rows


def _lengthened(states: torch.Tensor, length: int) -> torch.Tensor:
    """Keys or values (rows, heads, tokens, numbers) with room on the left."""
    return pad(states, (0, 0, length - states.shape[-2], 0))
