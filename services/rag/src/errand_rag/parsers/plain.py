"""Plain text, CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterator

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ParsedDocument, Section
from errand_rag.parsers.detection import CSV, JSON, PLAIN

_SNIFFED_CHARACTERS = 8192
_MAX_CELL_CHARACTERS = 1_000_000


def parse_plain(text: str) -> ParsedDocument:
    """One section."""
    return ParsedDocument(media_type=PLAIN, sections=(Section(text=text),))


def parse_csv(text: str) -> ParsedDocument:
    """A line for each row, each value beside its column's name, so that a row explains itself."""
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:_SNIFFED_CHARACTERS], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), dialect) if any(row)]
    except csv.Error as error:
        raise DocumentRejected(f"the CSV cannot be read: {error}") from None
    if not rows:
        return ParsedDocument(media_type=CSV, sections=())
    header, *records = rows
    lines = [_row(header, record) for record in records] or ["; ".join(header)]
    return ParsedDocument(media_type=CSV, sections=(Section(text="\n".join(lines)),))


def _row(header: list[str], record: list[str]) -> str:
    cells = []
    for index, value in enumerate(record):
        name = header[index].strip() if index < len(header) else ""
        value = " ".join(value.split())  # noqa: PLW2901 - made one line
        if value:
            cells.append(f"{name}: {value}" if name else value)
    return "; ".join(cells)


def parse_json(text: str) -> ParsedDocument:
    """A line for each value, beside the path to it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # A stream of JSON values, one a line, is common too.
        value = _json_lines(text)
    try:
        lines = list(_flatten(value, ""))
    except RecursionError:
        raise DocumentRejected("the JSON is nested too deeply") from None
    return ParsedDocument(media_type=JSON, sections=(Section(text="\n".join(lines)),))


def _json_lines(text: str) -> list[object]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise DocumentRejected("the JSON cannot be read; check that the file is complete") from None


def _flatten(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f"{path}[{index}]")
    else:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{path}: {shown}" if path else str(shown)
