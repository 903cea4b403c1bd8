"""The labelled set: documents whose sections are the passages, and queries with the relevant ones.

A passage is named `document#Heading`. A query's kind says what it asks of a search: a `paraphrase`
shares few words with its passage, an `exact` one is a code or name that only the words find, a
`multi` one has relevant passages in several places.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

KINDS = ("paraphrase", "exact", "multi")


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and the names of the passages that answer it."""

    kind: str
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Markdown documents by file name, their passages' names, and the queries."""

    documents: dict[str, str]
    passages: frozenset[str]
    queries: tuple[LabelledQuery, ...]


def load(folder: Path | None = None) -> LabelledSet:
    """The set in a folder (`corpus/*.md` and `queries.tsv`), or the one that is shipped.

    Raises ValueError for a query whose kind or passage is not there, OSError for missing files.
    """
    root: Traversable = folder if folder is not None else files("errand_rag.evaluation")
    found = sorted(root.joinpath("corpus").iterdir(), key=lambda item: item.name)
    documents = {item.name: item.read_text("utf-8") for item in found if item.name.endswith(".md")}
    passages = frozenset(name for file, text in documents.items() for name in _passages(file, text))
    lines = root.joinpath("queries.tsv").read_text("utf-8").splitlines()
    queries = tuple(_query(line, passages) for line in lines if line.strip())
    return LabelledSet(documents, passages, queries)


def passage_name(filename: str, heading: str) -> str:
    """How the set names the passage below a heading of a document."""
    return f"{filename.removesuffix('.md')}#{heading}"


def _passages(filename: str, text: str) -> Iterator[str]:
    return (passage_name(filename, line[3:].strip()) for line in text.splitlines() if line.startswith("## "))


def _query(line: str, passages: frozenset[str]) -> LabelledQuery:
    kind, text, relevant = line.split("\t")
    names = frozenset(name.strip() for name in relevant.split(";"))
    if kind not in KINDS or not names <= passages:
        raise ValueError(f"the labelled query {text!r} has an unknown kind or passage: {kind}, {names - passages}")
    return LabelledQuery(kind, text, names)
