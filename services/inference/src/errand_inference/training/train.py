"""`python -m errand_inference train`: trains the bundled model from scratch, or a model of yours.

Without --base a new model and tokenizer are made; with it, the model in that folder (FunctionGemma,
or the bundled one) is trained on. Data comes from the generator, or with --data from a JSONL file.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import Gemma3ForCausalLM, PreTrainedTokenizerFast

from errand_inference.domain.format import END_TURN, render_messages, render_prefix
from errand_inference.training.architecture import build_model
from errand_inference.training.catalogue import Catalogue
from errand_inference.training.examples import draw_example, draw_training_offer
from errand_inference.training.packing import Group, encode_branch, encode_prefix, pack
from errand_inference.training.tokens import load_tokenizer, train_tokenizer
from errand_inference.training.trainer import Trainer, TrainingPlan, seeded

TOKENIZER_EXAMPLES = 40_000
BRANCHES = 14
# The head is the embedding table; stored once, it is tied again on loading.
TIED_HEAD = "lm_head.weight"


def generated_texts(seed: int, count: int) -> Iterator[str]:
    """Whole rendered conversations, for the tokenizer."""
    rng, catalogue = seeded(seed, "tokenizer"), Catalogue(held_out=False)
    for _ in range(count // 4):
        offer = draw_training_offer(rng, catalogue)
        yield render_prefix("", offer.declarations)
        for _ in range(4):
            yield render_messages(draw_example(rng, offer, catalogue).messages) + END_TURN


def generated_groups(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[Group]:
    """An endless stream of prefixes with their branches."""
    catalogue = Catalogue(held_out=False)
    while True:
        offer = draw_training_offer(rng, catalogue)
        branches = [encode_branch(tokenizer, draw_example(rng, offer, catalogue).messages) for _ in range(BRANCHES)]
        yield Group(encode_prefix(tokenizer, offer.declarations), branches)


def prepare(options: argparse.Namespace) -> tuple[Gemma3ForCausalLM, PreTrainedTokenizerFast]:
    """The model to train and its tokenizer, made, loaded or taken from the run's folder."""
    if options.base:
        model = Gemma3ForCausalLM.from_pretrained(options.base, dtype=torch.float32)
        return model, load_tokenizer(options.base)
    stored = options.run_folder / "tokenizer"
    if stored.exists():
        tokenizer = load_tokenizer(stored)
    else:
        tokenizer = train_tokenizer(generated_texts(options.seed, TOKENIZER_EXAMPLES))
        tokenizer.save_pretrained(stored)
    return build_model(tokenizer, seed=options.seed), tokenizer


def export(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, target: Path) -> None:
    """Writes the model in Hugging Face's layout, weights as bfloat16."""
    target.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to("cpu", torch.bfloat16)
        for name, tensor in trainer.model.state_dict().items()
        if name != TIED_HEAD
    }
    trainer.model.config.dtype = torch.bfloat16
    trainer.model.save_pretrained(target, state_dict=weights)
    tokenizer.save_pretrained(target)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="errand train", description=__doc__)
    parser.add_argument(
        "--run-folder",
        type=Path,
        required=True,
        help="checkpoints and log; a second start goes on from here",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder the model is written to")
    parser.add_argument("--base", type=Path, help="folder of a model to start from")
    parser.add_argument("--minutes", type=float, default=90.0, help="wall-clock minutes over all restarts")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--rows", type=int, default=4, help="packed rows in a batch")
    parser.add_argument("--length", type=int, default=1024, help="tokens in a row")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    parser.add_argument("--compile", action="store_true", help="compile the model first (needs a C++ compiler)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Trains and exports; returns the exit status."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = prepare(options)
    plan = TrainingPlan(
        options.minutes,
        options.rows,
        options.length,
        seed=options.seed,
        precision=options.precision,
    )
    trainer = Trainer(model, plan, options.run_folder)
    trainer.restore()
    rng = seeded(options.seed, f"data from step {trainer.progress.step}")
    rows = pack(generated_groups(tokenizer, rng), plan.length)
    trainer.run(rows, lambda paused: export(paused, tokenizer, options.output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
