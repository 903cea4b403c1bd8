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
    return "\n".join(f"{name} ::= {rule}" for name, rule in _rules(grammar, _ebnf, _EBNF_TERMINALS))


@lru_cache(maxsize=_TEXTS_KEPT)
def to_lark(grammar: Grammar) -> str:
    """Lark as llguidance reads it; control tokens stand for themselves."""
    rules = _rules(grammar, _lark, _LARK_TERMINALS)
    return "\n".join(f"{'start' if name == 'root' else name}: {rule}" for name, rule in rules)


def _rules(grammar: Grammar, written: Callable[[Node], str], terminals: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The rules that `root` leads to, itself first: an engine reads all that it is given, for every request."""
    names = ["root"]
    for name in names:
        if name in grammar.rules:
            node = grammar.rules[name]
            yield name, written(node)
            names += [found for found in dict.fromkeys(_named(node)) if found not in names]
        elif name in terminals:
            yield name, terminals[name]


def _named(node: Node) -> list[str]:
    """The names of the rules in a node."""
    match node:
        case Rule(name):
            return [name]
        case Series(inner) | Choice(inner):
            return [name for part in inner for name in _named(part)]
        case Repeat(part):
            return _named(part)
        case _:
            return []


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


def _written(node: Node, marker: Callable[[str], str], letters: Callable[[str, int, int], str]) -> str:
    match node:
        case Letters(never, least, most):
            return letters(f"[^<{never}]", least, most)
        case Text(value):
            return _quoted(value)
        case Marker(token):
            return marker(token)
        case Rule(name):
            return name
        case Series(parts):
            return " ".join(_written(part, marker, letters) for part in parts if part != Text("")) or '""'
        case Choice(options):
            return "(" + " | ".join(_written(option, marker, letters) for option in options) + ")"
        case Repeat(part, least, most):
            return f"({_written(part, marker, letters)}){_times(least, most)}"


def _ebnf(node: Node) -> str:
    return _written(node, _quoted, lambda letter, least, most: f"{letter}{{{least},{most}}}")


def _lark(node: Node) -> str:
    return _written(node, str, _lark_letters)


def _lark_letters(letter: str, least: int, most: int) -> str:
    """A terminal matches one character at least; that there may be none is said outside of it."""
    if most == 0:
        return '""'
    return f"/{letter}{{{max(least, 1)},{most}}}/{'' if least else '?'}"
