"""The bundled model's tokenizer: byte-level BPE with FunctionGemma's control tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from errand_inference.domain.format import BOS, CONTROL_TOKENS, END_TURN

VOCABULARY_SIZE = 4096
PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
# Digits stand alone, so that numbers are copied digit by digit; a word keeps its leading space.
_PIECES = Regex(r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+")


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the texts, in the layout that AutoTokenizer loads."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, EOS, BOS, UNK, *CONTROL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END_TURN,
        pad_token=PAD,
        unk_token=UNK,
        additional_special_tokens=list(CONTROL_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder."""
    return PreTrainedTokenizerFast.from_pretrained(folder)
