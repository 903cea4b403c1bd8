"""Personal data found by presidio (the extra `presidio`), which with a model of spaCy knows names and places too."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import spacy
import tldextract
from errand_common.personal_data import masked
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, RecognizerResult
from presidio_analyzer.nlp_engine import SpacyNlpEngine

# Below it presidio guesses by nothing but the number of digits.
_LEAST_SCORE: Final = 0.4
# Texts looked at together: each keeps a processor busy.
_AT_ONCE: Final = 2
# The words of the forms that are found without it.
_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "EMAIL_ADDRESS": ("e-mail address", "[EMAIL]"),
    "PHONE_NUMBER": ("phone number", "[PHONE]"),
    "CREDIT_CARD": ("payment card", "[CARD]"),
    "IBAN_CODE": ("bank account", "[IBAN]"),
    "US_SSN": ("social security number", "[SSN]"),
}


class PresidioMasker:
    """Masker by presidio's recognizers, and by our forms for what they leave.

    `model` is an installed model of spaCy or its folder; without one nothing is found that has no pattern.
    Raises ValueError for an entity that presidio does not know in this language.
    """

    def __init__(self, model: str, *, language: str, entities: Sequence[str]) -> None:
        # By itself it reads the list of public suffixes from the internet, for the first address that it finds.
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
        self._language = language
        self._entities = list(entities)
        engine = _Engine(model, language)
        registry = RecognizerRegistry(supported_languages=[language])
        registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
        if unknown := set(entities) - set(self._analyzer.get_supported_entities(language)):
            raise ValueError(f"presidio_entities: presidio does not know {sorted(unknown)[0]} in {language}")
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def masked(self, text: str) -> tuple[str, list[str]]:
        """The text with personal data masked, and the names of what was found."""
        async with self._turns:
            results = await asyncio.to_thread(self._analyze, text)
        found = []
        for result in _apart(results):
            name, mask = _NAMES.get(result.entity_type, _plain(result.entity_type))
            text = text[: result.start] + mask + text[result.end :]
            found.append(name)
        safe, more = masked(text)
        return safe, list(dict.fromkeys([*reversed(found), *more]))

    def _analyze(self, text: str) -> list[RecognizerResult]:
        return self._analyzer.analyze(text, self._language, entities=self._entities, score_threshold=_LEAST_SCORE)


class _Engine(SpacyNlpEngine):
    """spaCy with an installed model or none: presidio's own way would download what is not there."""

    def __init__(self, model: str, language: str) -> None:
        super().__init__(models=[{"lang_code": language, "model_name": model or "blank"}])
        loaded = spacy.load(model) if model else spacy.blank(language)
        self.nlp = {language: loaded}  # type: ignore[assignment]  # presidio types it as what it is before loading

    def load(self) -> None:
        """Nothing: it is loaded."""


def _apart(results: Sequence[RecognizerResult]) -> list[RecognizerResult]:
    """Those that do not overlap, the surest and longest of those that do, from the text's end on."""
    kept: list[RecognizerResult] = []
    for result in sorted(results, key=lambda each: (-each.score, each.start - each.end)):
        if all(result.end <= other.start or other.end <= result.start for other in kept):
            kept.append(result)
    return sorted(kept, key=lambda each: -each.start)


def _plain(entity: str) -> tuple[str, str]:
    return entity.lower().replace("_", " "), f"[{entity}]"
