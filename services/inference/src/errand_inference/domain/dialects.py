"""Writes a grammar in the dialects that engines read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from errand_inference.domain.format import ESCAPE
from errand_inference.domain.grammar import (
    NEVER_IN_JSON,
    Choice,
    Grammar,
    Letters,
    Marker,
    Node,
    Repeat,
    Rule,
    Series,
    Text,
)

# Text may hold "<", but never followed by two letters with which a control token begins. Whole names
# would forbid less, but each letter more is a state of the grammar, and decoding slowed tenfold.
_FIRST_LETTERS = {"b": "o", "e": "nos", "m": "a", "p": "a", "s": "t", "u": "n"}

# What is in no text, in no text's first character (it would be an answer that nobody sees), in no JSON string.
_NEVERS = (r"\x00", r"\x00-\x20", NEVER_IN_JSON)
_TEXTS_KEPT = 512
_EMPTY = '""'

# Two digits of an exponent: what a grammar lets through is a number that a double can hold, never infinity.
_EBNF_NATURAL = '("0" | [1-9] [0-9]{0,17})'
_EBNF_POSITIVE = f'{_EBNF_NATURAL} ("." [0-9]{{1,17}})? ([eE] [+-]? [0-9]{{1,2}})?'
_EBNF_KEY = "[A-Za-z_] [A-Za-z0-9_]{0,63}"
_EBNF_PLAIN = {
    "digit": "[0-9]",
    "digit_but_zero": "[1-9]",
    "integer": f'"-"? {_EBNF_NATURAL}',
    "positive": _EBNF_POSITIVE,
    "number": f'"-"? {_EBNF_POSITIVE}',
    "key": _EBNF_KEY,
    "json_key": rf'"\"" {_EBNF_KEY} "\""',
}
_LARK_NATURAL = "(0|[1-9][0-9]{0,17})"
_LARK_POSITIVE = rf"{_LARK_NATURAL}(\.[0-9]{{1,17}})?([eE][+-]?[0-9]{{1,2}})?"
_LARK_KEY = "[A-Za-z_][A-Za-z0-9_]{0,63}"
_LARK_PLAIN = {
    "digit": "/[0-9]/",
    "digit_but_zero": "/[1-9]/",
    "integer": f"/-?{_LARK_NATURAL}/",
    "positive": f"/{_LARK_POSITIVE}/",
    "number": f"/-?{_LARK_POSITIVE}/",
    "key": f"/{_LARK_KEY}/",
    "json_key": f'/"{_LARK_KEY}"/',
}


@lru_cache(maxsize=_TEXTS_KEPT)
def to_ebnf(grammar: Grammar) -> str:
    """EBNF as xgrammar reads it; a control token is its text, which the token itself matches too."""
    rules = _Writer(_quoted, _ebnf_letters).rules(grammar, _EBNF_TERMINALS)
    return "\n".join([f"{name} ::= {rule}" for name, rule in rules])


@lru_cache(maxsize=_TEXTS_KEPT)
def to_lark(grammar: Grammar) -> str:
    """Lark as llguidance reads it; control tokens stand for themselves."""
    rules = _Writer(str, _lark_letters).rules(grammar, _LARK_TERMINALS)
    return "\n".join([f"{'start' if name == 'root' else name}: {rule}" for name, rule in rules])


class _Writer:
    """Writes what two dialects have in common, and follows the names of rules."""

    def __init__(self, marker: Callable[[str], str], letters: Callable[[str, int, int], str]) -> None:
        self._marker, self._letters = marker, letters
        self._names = ["root"]

    def rules(self, grammar: Grammar, terminals: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The rules that `root` leads to, itself first: an engine reads all that it is given, for every request."""
        for name in self._names:
            if name in grammar.rules:
                yield name, self._written(grammar.rules[name])
            elif name in terminals:
                yield name, terminals[name]

    def _written(self, node: Node) -> str:
        match node:
            case Text(value):
                return _quoted(value)
            case Series(parts):
                return " ".join([text for part in parts if (text := self._written(part)) != _EMPTY]) or _EMPTY
            case Choice(options):
                return "(" + " | ".join([self._written(option) for option in options]) + ")"
            case Rule(name):
                if name not in self._names:
                    self._names.append(name)
                return name
            case Marker(token):
                return self._marker(token)
            case Repeat(part, least, most):
                return f"({self._written(part)}){_times(least, most)}"
            case Letters(never, least, most):
                return self._letters(f"[^<{never}]", least, most)


def _text_pieces(never: str) -> list[list[str]]:
    """Series of letter classes: one letter of text, or "<" with what may follow it; `never` is in none.

    Plain classes side by side: nesting them or repeating "<" doubled the time of a step. Control
    characters stand last in their class: a letter behind one would be read as one more digit of its number.
    """
    first = "".join(_FIRST_LETTERS)
    begun = [["[<]", f"[{letter}]", f"[^<{second}{never}]"] for letter, second in _FIRST_LETTERS.items()]
    return [[f"[^<{never}]"], ["[<]", f"[^<{first}{never}]"], *begun]


def _ebnf_terminals() -> dict[str, str]:
    piece, begin, json_piece = (" | ".join(" ".join(piece) for piece in _text_pieces(never)) for never in _NEVERS)
    return {
        "string": f'"{ESCAPE}" ({piece})* "{ESCAPE}"',
        "free_text": f"({begin}) ({piece})*",
        "json_string": rf'"\"" ({json_piece} | "\\" (["\\/bfnrt] | "u" [0-9a-f]{{4}}))* "\""',
        **_EBNF_PLAIN,
    }


def _lark_terminals() -> dict[str, str]:
    piece, begin, json_piece = ("|".join("".join(piece) for piece in _text_pieces(never)) for never in _NEVERS)
    return {
        "string": f"{ESCAPE} /({piece})+/? {ESCAPE}",
        "free_text": f"/({begin})({piece})*/",
        "json_string": rf'/"({json_piece}|\\(["\\\/bfnrt]|u[0-9a-f]{{4}}))*"/',
        **_LARK_PLAIN,
    }


_EBNF_TERMINALS = _ebnf_terminals()
_LARK_TERMINALS = _lark_terminals()


@lru_cache(maxsize=_TEXTS_KEPT)
def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _times(least: int, most: int | None) -> str:
    if (least, most) == (1, 1):
        return ""
    return "?" if (least, most) == (0, 1) else f"{{{least},{'' if most is None else most}}}"


def _ebnf_letters(letter: str, least: int, most: int) -> str:
    return f"{letter}{{{least},{most}}}"


def _lark_letters(letter: str, least: int, most: int) -> str:
    """A terminal matches one character at least; that there may be none is said outside of it."""
    if most == 0:
        return _EMPTY
    return f"/{letter}{{{max(least, 1)},{most}}}/{'' if least else '?'}"
