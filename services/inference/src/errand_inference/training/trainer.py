"""Trains a Gemma 3 model on packed rows, by wall-clock time, with restarts from a checkpoint."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import Gemma3ForCausalLM

from errand_inference.training.packing import Batch, Row, collate, next_token_targets

# Share of the given text that the loss looks at.
PROMPT_SAMPLE = 0.12


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how hard to train. Times are minutes of wall clock over all restarts."""

    minutes: float
    rows: int = 4
    length: int = 1024
    matrix_rate: float = 3e-3
    vector_rate: float = 3e-3
    warmup_steps: int = 60
    decay_share: float = 0.3
    seed: int = 20261121
    checkpoint_minutes: float = 3.0
    precision: str = "fp32"
    compiled: bool = False


@dataclass(slots=True)
class Progress:
    """What was done so far; stored in every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Trainer:
    """Owns model, optimisers and progress."""

    def __init__(self, model: Gemma3ForCausalLM, plan: TrainingPlan, folder: Path) -> None:
        self.model, self.plan, self.folder = model, plan, folder
        self.progress = Progress()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(self.device)  # type: ignore[arg-type]
        self._body = torch.compile(model.model, dynamic=False) if plan.compiled else model.model
        self._optimisers = build_optimisers(model, plan)
        self._sampler = torch.Generator().manual_seed(plan.seed)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, rows: Iterator[Row], on_pause: Callable[[Trainer], None]) -> None:
        """Trains until the plan's minutes are over; `on_pause` is called after every checkpoint."""
        self.model.train()
        saved = self.progress.seconds
        while self.progress.seconds < self.plan.minutes * 60:
            began = time.monotonic()
            loss = self.step([next(rows) for _ in range(self.plan.rows)])
            self.progress.seconds += time.monotonic() - began
            if self.progress.step % 20 == 0:
                self.log(loss=loss)
            if self.progress.seconds - saved >= self.plan.checkpoint_minutes * 60:
                saved = self.progress.seconds
                self.save()
                on_pause(self)
                self.model.train()
        self.save()
        on_pause(self)

    def step(self, rows: list[Row]) -> float:
        """One update; returns the weighted loss of the batch in nats a token."""
        share = self.progress.seconds / (self.plan.minutes * 60)
        factor = rate_factor(self.progress.step, share, self.plan)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base_rate"] * factor
        loss = self._loss(collate(rows))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += sum(1 for row in rows for segment in row.segments if segment >= 0)
        return float(loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        targets, weights = next_token_targets(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            hidden = self._body(
                input_ids=batch.ids.to(self.device),
                position_ids=batch.positions.to(self.device),
                attention_mask={
                    "full_attention": batch.mask.to(self.device),
                    "sliding_attention": batch.mask.to(self.device),
                },
                use_cache=False,
            ).last_hidden_state[:, :-1]
            kept = self._kept(weights).to(self.device)
            logits = self.model.lm_head(hidden[kept])
        losses = functional.cross_entropy(logits.float(), targets.to(self.device)[kept], reduction="none")
        chosen = weights.to(self.device)[kept]
        return (losses * chosen).sum() / chosen.sum()

    def _kept(self, weights: torch.Tensor) -> torch.Tensor:
        """Where the loss is computed: everything the model should say, and a sample of the rest.

        The head over the vocabulary is a large part of a step, and prompt tokens only teach words.
        """
        sampled = torch.rand(weights.shape, generator=self._sampler) < PROMPT_SAMPLE
        return (weights == 1) | ((weights > 0) & sampled)

    def log(self, **figures: float) -> None:
        """Appends a line of figures to log.jsonl."""
        line = {
            **asdict(self.progress),
            **figures,
            "tokens_per_second": self.progress.tokens / max(self.progress.seconds, 1e-9),
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Writes the checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "progress": asdict(self.progress),
        }
        unfinished = self.folder / "checkpoint.part"
        torch.save(state, unfinished)
        os.replace(unfinished, self.folder / "checkpoint.pt")

    def restore(self) -> bool:
        """Goes on from the folder's checkpoint; false when there is none."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, stored in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        self.progress = Progress(**state["progress"])
        return True


def build_optimisers(model: Gemma3ForCausalLM, plan: TrainingPlan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers (Jordan et al. 2024), AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    taken = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    muon = torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=plan.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
    for optimiser, rate in ((muon, plan.matrix_rate), (adam, plan.vector_rate)):
        for group in optimiser.param_groups:
            group["base_rate"] = rate
    return [muon, adam]


def rate_factor(step: int, share: float, plan: TrainingPlan) -> float:
    """Warm-up by steps, then constant, then down to zero over the last `decay_share` of the time."""
    warm = min(1.0, (step + 1) / plan.warmup_steps)
    left = max(0.0, 1.0 - share)
    return warm * (1.0 if left > plan.decay_share else math.sqrt(left / plan.decay_share) * left / plan.decay_share)


def seeded(seed: int, stream: str) -> random.Random:
    """A generator of its own for each use of a seed."""
    return random.Random(f"{seed}:{stream}")  # noqa: S311 - training data, not a secret
