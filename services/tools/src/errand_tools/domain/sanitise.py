"""Makes a tool's result safe and short enough for a model's context."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

MAX_RESULT_BYTES = 16 * 1024
_MAX_DEPTH = 32
# Everything a tokenizer of this family turns into a control token: <bos>, <start_of_turn>,
# <end_function_call>, <escape>, <unused12>, <|im_start|> and their like.
_CONTROL_TOKEN = re.compile(
    r"<(?=/?(?:bos|eos|pad|unk|mask|escape|start_\w+|end_\w+|unused\d+|image_soft_token)>)"
    r"|<(?=\|[\w ]{1,40}\|>)|\[(?=multimodal\])",
    re.IGNORECASE,
)
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\ud800-\udfff]"
)
# Looks like the bracket it replaces and is no part of any token.
_HARMLESS = {"<": "\u2039", "[": "\u27e6"}


def clean_text(text: str) -> str:
    """Text without control characters, in which no control token of a model survives."""
    # Characters first: one hidden inside a token would otherwise be removed after the search.
    visible = _CONTROL_CHARACTERS.sub("", text)
    return _CONTROL_TOKEN.sub(lambda match: _HARMLESS[match.group()], visible)


class _Cleaner:
    """Cleans a value until a budget of characters is spent, so that a flood costs no more."""

    def __init__(self, budget: int, screen: Callable[[str], str]) -> None:
        self._budget, self._screen = budget, screen
        self.cut = False

    def clean(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._text(value)
        if depth >= _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value, depth)
        return self._text(str(value))

    def _integer(self, value: int) -> Any:
        # Python refuses to print longer ones, and no JSON reader wants them.
        if value.bit_length() > 4_096:
            return f"an integer of {value.bit_length()} bits"
        digits = str(value)
        return value if (safe := self._screen(digits)) == digits else safe

    def _text(self, value: str) -> str:
        kept = value[: max(self._budget, 0)]
        self.cut = self.cut or len(kept) < len(value)
        self._budget -= len(kept) + 1
        return self._screen(clean_text(kept))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        cleaned = {}
        for key, item in value.items():
            if self._budget <= 0:
                self.cut = True
                break
            cleaned[self._text(str(key))] = self.clean(item, depth + 1)
        return cleaned

    def _items(self, value: Collection[Any], depth: int) -> list[Any]:
        cleaned = []
        for item in value:
            if self._budget <= 0:
                self.cut = True
                break
            self._budget -= 1
            cleaned.append(self.clean(item, depth + 1))
        return cleaned


def to_result(
    value: Any, limit_bytes: int = MAX_RESULT_BYTES, *, screen: Callable[[str], str] = str
) -> tuple[str, bool]:
    """The cleaned value as JSON text of at most `limit_bytes`, its texts by way of `screen`, and whether it was cut."""
    cleaner = _Cleaner(32 * limit_bytes, screen)
    cleaned = cleaner.clean(value)
    text = _dump(cleaned)
    if not cleaner.cut and len(text.encode()) <= limit_bytes:
        return text, False
    note = f"cut: the result was longer than {limit_bytes} bytes"
    if isinstance(cleaned, dict) and cleaned:
        cut = _cut_largest(cleaned, note, limit_bytes)
        if cut is not None:
            return cut, True
    return _cut_text("result", {}, text, note, limit_bytes), True


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut_largest(value: dict[str, Any], note: str, limit_bytes: int) -> str | None:
    """Cuts the longest field and keeps the others; None when those are too long themselves."""
    name = max(value, key=lambda key: len(_dump(value[key])))
    others = {key: item for key, item in value.items() if key != name}
    if len(_dump({**others, name: "", "note": note}).encode()) > limit_bytes // 2:
        return None
    largest = value[name]
    if isinstance(largest, list):
        return _cut_list(name, others, largest, note, limit_bytes)
    text = largest if isinstance(largest, str) else _dump(largest)
    return _cut_text(name, others, text, note, limit_bytes)


def _cut_list(name: str, others: dict[str, Any], items: list[Any], note: str, limit_bytes: int) -> str:
    kept: list[Any] = []
    room = limit_bytes - len(_dump({**others, name: [], "note": note}).encode())
    for item in items:
        room -= len(_dump(item).encode()) + 2
        if room < 0:
            break
        kept.append(item)
    if not kept:
        return _cut_text(name, others, _dump(items), note, limit_bytes)
    return _dump({**others, name: kept, "note": note})


def _cut_text(name: str, others: dict[str, Any], text: str, note: str, limit_bytes: int) -> str:
    """The longest beginning that fits, found by halving: JSON escapes make lengths uneven."""
    low, high = 0, min(len(text), limit_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_dump({**others, name: text[:middle], "note": note}).encode()) <= limit_bytes:
            low = middle
        else:
            high = middle - 1
    # Cutting may have halved a token's bracket from its rest, never made one.
    return _dump({**others, name: text[:low], "note": note})
