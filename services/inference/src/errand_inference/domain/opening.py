"""The text that a grammar leaves no choice about at the beginning: it can be read with the prompt, not drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from errand_inference.domain.grammar import (
    NOTHING,
    Choice,
    Grammar,
    Marker,
    Node,
    Repeat,
    Rule,
    Series,
    Text,
)

# A control token, which is taken whole, or one character.
_Atom = Marker | str
_OPENINGS_KEPT = 512


@dataclass(frozen=True, slots=True)
class Opening:
    """What a turn begins with, and the node that goes on behind it."""

    atoms: tuple[_Atom, ...]
    rest: Node

    @property
    def text(self) -> str:
        """The opening as it is spelled."""
        return "".join(map(_spelled, self.atoms))


def _spelled(atom: _Atom) -> str:
    return atom.token if isinstance(atom, Marker) else atom


@lru_cache(maxsize=_OPENINGS_KEPT)
def opening(grammar: Grammar) -> Opening:
    """The longest text with which every turn of the grammar begins."""
    return _of(Rule("root"), grammar.rules)


@lru_cache(maxsize=_OPENINGS_KEPT)
def after(grammar: Grammar, text: str) -> Grammar | None:
    """The grammar of what follows `text`; None when its opening does not begin with that, or not with whole markers."""
    begun = opening(grammar)
    characters = 0
    for taken, atom in enumerate((*begun.atoms, "")):
        if characters == len(text) and begun.text.startswith(text):
            root = _series((_written(begun.atoms[taken:]), begun.rest))
            return Grammar({**grammar.rules, "root": root})
        characters += len(_spelled(atom))
    return None


def _of(node: Node, rules: Mapping[str, Node]) -> Opening:
    """`rules` are those that may be looked into: one that leads to itself has no end."""
    match node:
        case Text(value):
            return Opening(tuple(value), NOTHING)
        case Marker():
            return Opening((node,), NOTHING)
        case Rule(name) if name in rules:
            return _of(rules[name], {other: rule for other, rule in rules.items() if other != name})
        case Series(parts):
            return _of_series(parts, rules)
        case Choice():
            return _of_choice(node, rules)
        case Repeat(part, least, most) if least:
            begun = _of(part, rules)
            rest = NOTHING if most == 1 else Repeat(part, least - 1, None if most is None else most - 1)
            return Opening(begun.atoms, _series((begun.rest, rest)))
        case _:
            return Opening((), node)


def _of_series(parts: Sequence[Node], rules: Mapping[str, Node]) -> Opening:
    atoms: tuple[_Atom, ...] = ()
    for index, part in enumerate(parts):
        begun = _of(part, rules)
        atoms += begun.atoms
        if begun.rest != NOTHING:
            return Opening(atoms, _series((begun.rest, *parts[index + 1 :])))
    return Opening(atoms, NOTHING)


def _of_choice(choice: Choice, rules: Mapping[str, Node]) -> Opening:
    """What all options begin with; without that the choice stays as it is."""
    begun = [_of(choice.options[0], rules)]
    shared = begun[0].atoms
    for option in choice.options[1:]:
        if not shared:
            break
        begun.append(_of(option, rules))
        shared = _common(shared, begun[-1].atoms)
    if not shared:
        return Opening((), choice)
    rests = tuple(_series((_written(one.atoms[len(shared) :]), one.rest)) for one in begun)
    return Opening(shared, rests[0] if len(rests) == 1 else Choice(rests))


def _common(left: tuple[_Atom, ...], right: tuple[_Atom, ...]) -> tuple[_Atom, ...]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return tuple(atom for atom, _ in pairs)


def _written(atoms: Sequence[_Atom]) -> Node:
    """The node of an opening, or of what is left of it."""
    parts: list[Node] = []
    for atom in atoms:
        if isinstance(atom, Marker):
            parts.append(atom)
        elif parts and isinstance(before := parts[-1], Text):
            parts[-1] = Text(before.value + atom)
        else:
            parts.append(Text(atom))
    return _series(parts)


def _series(parts: Sequence[Node]) -> Node:
    kept = tuple(part for part in parts if part != NOTHING)
    return kept[0] if len(kept) == 1 else Series(kept) if kept else NOTHING
