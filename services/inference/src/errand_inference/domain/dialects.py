"""Writes a grammar in the dialects that engines read."""

from __future__ import annotations

import json

from errand_inference.domain.format import ESCAPE
from errand_inference.domain.grammar import Choice, Grammar, Marker, Node, Repeat, Rule, Series, Text

# Control tokens begin with "<" and one of these letters; text may hold any other use of "<".
_TEXT_EBNF = r"([^<\x00] | [<] [^<sebpum\x00])"
_EBNF_TERMINALS = rf"""
string ::= "{ESCAPE}" {_TEXT_EBNF}* "{ESCAPE}"
free_text ::= {_TEXT_EBNF}+
integer ::= "-"? ("0" | [1-9] [0-9]{{0,17}})
number ::= "-"? ("0" | [1-9] [0-9]{{0,17}}) ("." [0-9]{{1,17}})? ([eE] [+-]? [0-9]{{1,3}})?
key ::= [A-Za-z_] [A-Za-z0-9_]{{0,63}}
"""
_LARK_TERMINALS = rf"""
string: {ESCAPE} STRING_TEXT? {ESCAPE}
STRING_TEXT: /([^<\x00]|<[^<sebpum\x00])+/
free_text: /([^<\x00]|<[^<sebpum\x00])+/
integer: /-?(0|[1-9][0-9]{{0,17}})/
number: /-?(0|[1-9][0-9]{{0,17}})(\.[0-9]{{1,17}})?([eE][+-]?[0-9]{{1,3}})?/
key: /[A-Za-z_][A-Za-z0-9_]{{0,63}}/
"""


def to_ebnf(grammar: Grammar) -> str:
    """EBNF as xgrammar reads it; a control token is its text, which the token itself matches too."""
    rules = [f"{name} ::= {_ebnf(node)}" for name, node in _root_first(grammar)]
    return "\n".join(rules) + _EBNF_TERMINALS


def to_lark(grammar: Grammar) -> str:
    """Lark as llguidance reads it; control tokens stand for themselves."""
    rules = [f"{'start' if name == 'root' else name}: {_lark(node)}" for name, node in _root_first(grammar)]
    return "\n".join(rules) + _LARK_TERMINALS


def _root_first(grammar: Grammar) -> list[tuple[str, Node]]:
    return sorted(grammar.rules.items(), key=lambda rule: rule[0] != "root")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _times(least: int, most: int | None) -> str:
    if (least, most) == (0, 1):
        return "?"
    return f"{{{least},{'' if most is None else most}}}"


def _ebnf(node: Node) -> str:
    match node:
        case Text(value):
            return _quoted(value)
        case Marker(token):
            return _quoted(token)
        case Rule(name):
            return name
        case Series(parts):
            return " ".join(_ebnf(part) for part in parts)
        case Choice(options):
            return "(" + " | ".join(_ebnf(option) for option in options) + ")"
        case Repeat(part, least, most):
            return f"({_ebnf(part)})" + ("" if (least, most) == (1, 1) else _times(least, most))


def _lark(node: Node) -> str:
    match node:
        case Text(value):
            return _quoted(value)
        case Marker(token):
            return token
        case Rule(name):
            return name
        case Series(parts):
            return " ".join(_lark(part) for part in parts)
        case Choice(options):
            return "(" + " | ".join(_lark(option) for option in options) + ")"
        case Repeat(part, least, most):
            return f"({_lark(part)})" + ("" if (least, most) == (1, 1) else _times(least, most))
