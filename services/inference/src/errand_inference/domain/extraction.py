"""Finds the JSON in an answer of a model that no grammar bound: it talks around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from errand_inference.domain.schemas import is_json_of

_FENCED = re.compile(r"```[A-Za-z0-9]*\s*\n(.*?)```", re.DOTALL)
_DECODER = json.JSONDecoder()
# Each place where JSON may begin is read to the end of it.
_MOST_STARTS = 64


def extract_json(text: str, schema_json: str) -> str | None:
    """The JSON of this schema that the text is, or has in a fence or between other words; None without one."""
    return next((found for found in _candidates(text.strip()) if is_json_of(found, schema_json)), None)


def _candidates(text: str) -> Iterator[str]:
    yield text
    for fenced in _FENCED.finditer(text):
        yield fenced.group(1).strip()
    for start in [match.start() for match in re.finditer(r"[{\[]", text)][:_MOST_STARTS]:
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield text[start:end]
