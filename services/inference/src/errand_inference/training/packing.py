"""Packs examples for training: one prefix of declarations, then several independent branches.

The declarations are most of a prompt and the same for every request of an agent, so a packed row
computes them once. A branch sees the prefix and itself; its positions go on from the prefix, exactly
as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from errand_inference.domain.chat import Message, ModelMessage, ToolDeclaration
from errand_inference.domain.format import END_TURN, START_RESPONSE, render_messages, render_prefix

# Weight of the loss on text the model is given and not asked for: enough to learn the words.
PROMPT_WEIGHT = 0.4


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids of one conversation and the loss weight of each."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Group:
    """A prefix and the branches that share it."""

    prefix: list[int]
    branches: list[Branch]


@dataclass(frozen=True, slots=True)
class Row:
    """A packed row: ids, weights of predicting them, positions, and the branch of each (0: prefix).

    All four have `length` entries; -1 in `segments` is padding.
    """

    ids: list[int]
    weights: list[float]
    positions: list[int]
    segments: list[int]


def split_by_author(messages: Iterable[Message]) -> list[tuple[str, bool]]:
    """The conversation as (text, said by the model) pieces, closing marker included.

    The pieces put together are `render_messages` plus the end of the turn.
    """
    seen: list[Message] = []
    pieces: list[tuple[str, bool]] = []
    rendered = ""
    for message in messages:
        if isinstance(message, ModelMessage):
            opened = render_messages(seen)
            pieces.append((opened[len(rendered) :], False))
            rendered = opened
        seen.append(message)
        if isinstance(message, ModelMessage):
            said = render_messages(seen)
            pieces.append((said[len(rendered) :], True))
            rendered = said
    return _with_stops(pieces)


def _with_stops(pieces: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Moves the marker that ends what the model says from the text after it into its own."""
    stopped: list[tuple[str, bool]] = []
    for index, (text, said) in enumerate(pieces):
        following = pieces[index + 1][0] if index + 1 < len(pieces) else ""
        if said and following.startswith(START_RESPONSE):
            stopped.append((text + START_RESPONSE, True))
        elif said:
            calls = text.endswith("<end_function_call>") and not following
            stopped.append((text + (START_RESPONSE if calls else END_TURN), True))
        else:
            before = pieces[index - 1][1] if index else False
            stopped.append((_without_stop(text) if before else text, False))
    return stopped


def _without_stop(text: str) -> str:
    for marker in (START_RESPONSE, END_TURN):
        if text.startswith(marker):
            return text[len(marker) :]
    return text


def encode_prefix(
    tokenizer: PreTrainedTokenizerFast, tools: Iterable[ToolDeclaration], instructions: str = ""
) -> list[int]:
    """Token ids of the shared part of a prompt."""
    return _encode(tokenizer, render_prefix(instructions, tools))


def encode_branch(tokenizer: PreTrainedTokenizerFast, messages: tuple[Message, ...]) -> Branch:
    """Token ids of a conversation; what the model says weighs 1, all else PROMPT_WEIGHT."""
    ids: list[int] = []
    weights: list[float] = []
    for text, said in split_by_author(messages):
        piece = _encode(tokenizer, text)
        ids.extend(piece)
        weights.extend([1.0 if said else PROMPT_WEIGHT] * len(piece))
    return Branch(ids, weights)


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def pack(groups: Iterator[Group], length: int) -> Iterator[Row]:
    """Rows of exactly `length` tokens; a branch that does not fit is left out, never cut."""
    for group in groups:
        row = Row([], [], [], [])
        _append(row, group.prefix, [PROMPT_WEIGHT] * len(group.prefix), 0, 0)
        for number, branch in enumerate(group.branches, start=1):
            if len(row.ids) + len(branch.ids) <= length:
                _append(row, branch.ids, branch.weights, len(group.prefix), number)
        if 0 < len(row.ids) <= length and row.segments[-1] > 0:
            yield _padded(row, length)


def _append(row: Row, ids: list[int], weights: list[float], position: int, segment: int) -> None:
    row.ids.extend(ids)
    row.weights.extend(weights)
    row.positions.extend(range(position, position + len(ids)))
    row.segments.extend([segment] * len(ids))


def _padded(row: Row, length: int) -> Row:
    missing = length - len(row.ids)
    _append(row, [0] * missing, [0.0] * missing, 0, -1)
    return row


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of `rows` packed rows: ids, positions and segments (rows, length); the mask (rows, 1,
    length, length) is true where a token may look; weights belong to the token they stand at."""

    ids: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor


def collate(rows: list[Row]) -> Batch:
    """A batch of packed rows."""
    ids = torch.tensor([row.ids for row in rows])
    segments = torch.tensor([row.segments for row in rows])
    positions = torch.tensor([row.positions for row in rows])
    weights = torch.tensor([row.weights for row in rows])
    index = torch.arange(ids.shape[1])
    causal = index[None, :, None] >= index[None, None, :]
    same = segments[:, :, None] == segments[:, None, :]
    from_prefix = (segments[:, None, :] == 0) & (segments[:, :, None] > 0)
    mask = causal & (same | from_prefix)
    return Batch(ids, positions, weights, mask[:, None])


def next_token_targets(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and weights for logits at every position but the last, both (rows, length - 1).

    The first token of a branch follows the prefix, not the branch before it, so it weighs nothing.
    """
    targets = batch.ids[:, 1:]
    follows = batch.positions[:, 1:] == batch.positions[:, :-1] + 1
    return targets, batch.weights[:, 1:] * follows
