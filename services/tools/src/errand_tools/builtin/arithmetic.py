"""Reads and evaluates arithmetic as people write it, on exact fractions.

A small grammar of our own instead of Python's: percentages, thousands separators, root signs,
'2(3 + 4)' and 'of' mean here what they mean on paper, and nothing but arithmetic can be said.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from fractions import Fraction

MAX_CHARACTERS = 1_000
MAX_DEPTH = 50
MAX_BITS = 4_096
MAX_FACTORIAL = 300
# Irrational values carry twice the digits that are shown, so that sqrt(2)^2 shows as 2.
_CONTEXT = Context(prec=34)


class ArithmeticFault(Exception):  # noqa: N818  the expression's fault; Python has an ArithmeticError
    """The expression cannot be read or has no value; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Value:
    """A number, and whether it was written as a percentage: 200 + 10% is 220."""

    number: Fraction
    percent: bool = False


def evaluate(expression: str) -> Fraction:
    """The exact value, or 34 digits of it where it is irrational. Raises ArithmeticFault."""
    if len(expression) > MAX_CHARACTERS:
        raise ArithmeticFault(f"The expression is longer than {MAX_CHARACTERS} characters.")
    tokens = _tokens(expression)
    if not tokens:
        raise ArithmeticFault("The expression is empty; give one such as 2 * (3 + 4).")
    return _Parser(tokens).parse()


_SYMBOLS = str.maketrans(
    {
        "×": "*", "✕": "*", "⋅": "*", "·": "*", "∗": "*", "÷": "/", "∕": "/", ":": "/",
        "−": "-", "–": "-", "—": "-", "√": " sqrt ", "∛": " cbrt ", "π": " pi ", "²": "^2 ",
        "³": "^3 ", "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)", "$": " ", "€": " ", "£": " ",
        "[": "(", "]": ")", "{": "(", "}": ")", "\u00a0": " ", "\u202f": "_", "\u2009": "_",
    }
)  # fmt: skip
_LEADING = re.compile(r"^\s*(?:what(?:'s| is)|calculate|compute|evaluate|how much is)\s+", re.I)
_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), symbol)
    for pattern, symbol in (
        (r"\b(?:multiplied\s+by|times)\b", "*"),
        (r"\bdivided\s+by\b", "/"),
        (r"\bplus\b", "+"),
        (r"\bminus\b", "-"),
        (r"\b(?:modulo|modulus)\b", " mod "),
        (r"\b(?:raised\s+)?to\s+the\s+power\s+of\b", "^"),
        (r"\bsquared\b", "^2 "),
        (r"\bcubed\b", "^3 "),
        (r"\b(?:the\s+)?square\s+root\s+of\b", " sqrt "),
        (r"\b(?:the\s+)?cube\s+root\s+of\b", " cbrt "),
        (r"\bper\s?cent\b", "%"),
    )
)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<thousands>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?)
    | (?P<number>(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d{1,4}(?![A-Za-z\d]))?)
    | (?P<times>[xX](?=[\s\d(.+-]))
    | (?P<name>log10|log2|[A-Za-z]+)
    | (?P<operator>\*\*|//|[-+*/^%!(),])
    )""",
    re.VERBOSE,
)


def _tokens(expression: str) -> list[_Token]:
    text = _LEADING.sub("", expression.translate(_SYMBOLS))
    text = re.sub(r"\s*[=?.]*\s*$", "", text)
    for pattern, symbol in _PHRASES:
        text = pattern.sub(symbol, text)
    tokens: list[_Token] = []
    calls: list[bool] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            bad = text[position:].strip()[0]
            raise ArithmeticFault(f"The expression holds {bad!r}, which is no arithmetic.")
        token, position = _token(match, in_call=bool(calls and calls[-1]))
        if token.text == "(":
            calls.append(bool(tokens) and tokens[-1].text in _FUNCTIONS)
        elif token.text == ")" and calls:
            calls.pop()
        tokens.append(token)
    return tokens


def _token(match: re.Match[str], *, in_call: bool) -> tuple[_Token, int]:
    kind, text = next((k, t) for k, t in match.groupdict().items() if t is not None)
    if kind == "thousands" and in_call:
        # In max(1,200) the comma parts two arguments.
        first = text.split(",", maxsplit=1)[0]
        return _Token("number", first), match.start(kind) + len(first)
    if kind in ("thousands", "number"):
        return _Token("number", text.replace(",", "").replace("_", "")), match.end()
    if kind == "times":
        return _Token("operator", "*"), match.end()
    if text == "**":
        return _Token("operator", "^"), match.end()
    return _Token(kind, text.lower()), match.end()


class _Parser:
    """Recursive descent; each level of parentheses and of '^' counts towards MAX_DEPTH."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def parse(self) -> Fraction:
        value = self._sum()
        if self._next < len(self._tokens):
            raise ArithmeticFault(f"The expression is not clear at '{self._peek()}'.")
        return value.number

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _take(self, *texts: str) -> str:
        text = self._peek()
        if text and text in texts:
            self._next += 1
            return text
        return ""

    def _starts_operand(self) -> bool:
        if self._next >= len(self._tokens):
            return False
        token = self._tokens[self._next]
        return token.kind == "number" or token.text == "(" or token.text in _NAMES

    def _sum(self) -> _Value:
        left = self._product()
        while operator := self._take("+", "-"):
            right = self._product()
            relative = right.percent and not left.percent
            amount = left.number * right.number if relative else right.number
            total = left.number + (amount if operator == "+" else -amount)
            left = _Value(_bounded(total), left.percent and right.percent)
        return left

    def _product(self) -> _Value:
        left = self._signed()
        while True:
            operator = self._take("*", "/", "//", "mod", "of")
            if not operator and self._peek() == "%":
                self._next += 1
                operator = "mod"
            if not operator:
                return left
            right = self._signed()
            left = _Value(_bounded(_PRODUCTS[operator](left.number, right.number)))

    def _signed(self) -> _Value:
        with_sign = self._take("-", "+")
        if not with_sign:
            return self._juxtaposed()
        self._enter()
        value = self._signed()
        self._depth -= 1
        return _Value(-value.number, value.percent) if with_sign == "-" else value

    def _juxtaposed(self) -> _Value:
        """2(3 + 4), (1)(2), 2 pi: products without a sign."""
        left = self._power()
        while self._starts_operand() and self._tokens[self._next].kind != "number":
            left = _Value(_bounded(left.number * self._power().number))
        return left

    def _power(self) -> _Value:
        base = self._postfix()
        if not self._take("^"):
            return base
        self._enter()
        exponent = self._signed_exponent()
        self._depth -= 1
        return _Value(_power(base.number, exponent))

    def _signed_exponent(self) -> Fraction:
        sign = -1 if self._take("-") else 1
        return sign * self._power().number

    def _postfix(self) -> _Value:
        value = self._operand()
        while True:
            if self._take("!"):
                value = _Value(_factorial(value.number))
            elif self._peek() == "%" and not self._is_modulo():
                self._next += 1
                value = _Value(value.number / 100, percent=True)
            else:
                return value

    def _is_modulo(self) -> bool:
        """17 % 5 is a remainder; 20% of 150 and 20% * 150 are percentages."""
        self._next += 1
        operand = self._starts_operand()
        self._next -= 1
        return operand

    def _operand(self) -> _Value:
        if self._next >= len(self._tokens):
            raise ArithmeticFault("The expression ends where a number is expected.")
        token = self._tokens[self._next]
        self._next += 1
        if token.kind == "number":
            return _Value(_number(token.text))
        if token.text == "(":
            return self._parenthesised()
        if token.text in _CONSTANTS:
            return _Value(_CONSTANTS[token.text])
        if token.text in _FUNCTIONS:
            return _Value(self._call(token.text))
        raise ArithmeticFault(_unexpected(token))

    def _parenthesised(self) -> _Value:
        self._enter()
        value = self._sum()
        self._depth -= 1
        self._close()
        return value

    def _call(self, name: str) -> Fraction:
        least, most, function = _FUNCTIONS[name]
        self._enter()
        if self._take("("):
            arguments = [self._sum().number]
            while self._take(","):
                arguments.append(self._sum().number)
            self._close()
        else:
            arguments = [self._power().number]
        self._depth -= 1
        if not least <= len(arguments) <= most:
            raise ArithmeticFault(f"The function {name} takes another number of arguments.")
        return _bounded(function(*arguments))

    def _close(self) -> None:
        if not self._take(")"):
            raise ArithmeticFault("A parenthesis is not closed.")

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ArithmeticFault(f"The expression is nested deeper than {MAX_DEPTH} levels.")


def _unexpected(token: _Token) -> str:
    if token.kind == "name":
        return f"'{token.text[:40]}' is not known; use numbers, + - * / ^ % and sqrt, round or log."
    return f"The expression is not clear at '{token.text}'."


def _number(text: str) -> Fraction:
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > 400:
        raise _too_large()
    return _bounded(Fraction(f"{mantissa or 0}e{exponent or 0}"))


def _too_large() -> ArithmeticFault:
    return ArithmeticFault("The result is too large to calculate.")


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS:
        raise _too_large()
    if value.denominator.bit_length() > MAX_BITS:
        return _irrational(_decimal(value))
    return value


def _decimal(value: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _irrational(value: Decimal) -> Fraction:
    if not value.is_finite():
        raise ArithmeticFault("The expression has no value among the real numbers.")
    if abs(value.adjusted()) > 1_200:
        raise _too_large()
    return Fraction(value)


def _divide(left: Fraction, right: Fraction) -> Fraction:
    _check_divisor(right)
    return left / right


def _floor_divide(left: Fraction, right: Fraction) -> Fraction:
    _check_divisor(right)
    return Fraction(left // right)


def _modulo(left: Fraction, right: Fraction) -> Fraction:
    _check_divisor(right)
    return left % right


def _check_divisor(value: Fraction) -> None:
    if not value:
        raise ArithmeticFault("Division by zero has no result.")


_PRODUCTS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "*": lambda left, right: left * right,
    "of": lambda left, right: left * right,
    "/": _divide,
    "//": _floor_divide,
    "mod": _modulo,
}


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        return _integer_power(base, exponent.numerator)
    if exponent == Fraction(1, 2):
        return _sqrt(base)
    if base < 0:
        raise ArithmeticFault("A negative number has no such power among the real numbers.")
    if not base:
        return Fraction(0)
    return _real(_decimal_power, base, exponent)


def _decimal_power(base: Decimal, exponent: Decimal) -> Decimal:
    return _CONTEXT.power(base, exponent)


def _integer_power(base: Fraction, exponent: int) -> Fraction:
    if not base and exponent < 0:
        raise ArithmeticFault("Division by zero has no result.")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
    # 1 and -1 stay small whatever the exponent.
    if bits and bits * abs(exponent) > MAX_BITS:
        raise _too_large()
    if not bits:
        exponent = exponent % 2 if base else min(exponent, 1)
        return base**exponent
    return _bounded(base**exponent)


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise ArithmeticFault(f"A factorial needs a whole number from 0 to {MAX_FACTORIAL}.")
    return Fraction(math.factorial(value.numerator))


def _sqrt(value: Fraction) -> Fraction:
    if value < 0:
        raise ArithmeticFault("A negative number has no real square root.")
    numerator, denominator = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if numerator**2 == value.numerator and denominator**2 == value.denominator:
        return Fraction(numerator, denominator)
    return _irrational(_CONTEXT.sqrt(_decimal(value)))


def _cbrt(value: Fraction) -> Fraction:
    if value < 0:
        return -_cbrt(-value)
    root = round(float(value) ** (1 / 3)) if value < 10**15 else 0
    if root**3 == value:
        return Fraction(root)
    return _power(value, Fraction(1, 3)) if value else value


def _log(value: Fraction, base: Fraction = Fraction(10)) -> Fraction:
    if base == 10:
        return _real(_CONTEXT.log10, value)
    return _real(_CONTEXT.divide, _real(_CONTEXT.ln, value), _real(_CONTEXT.ln, base))


def _real(function: Callable[..., Decimal], *values: Fraction) -> Fraction:
    try:
        return _irrational(function(*(_decimal(value) for value in values)))
    except DecimalException:
        raise ArithmeticFault("The expression has no value among the real numbers.") from None


def _float(function: Callable[[float], float]) -> Callable[[Fraction], Fraction]:
    def apply(value: Fraction) -> Fraction:
        try:
            return Fraction(function(float(value)))
        except (ValueError, OverflowError):
            raise ArithmeticFault("The expression has no value among the real numbers.") from None

    return apply


def _round(value: Fraction, digits: Fraction = Fraction(0)) -> Fraction:
    """Half away from zero, as people round."""
    if digits.denominator != 1 or abs(digits) > 100:
        raise ArithmeticFault("round takes a whole number of digits, at most 100.")
    factor = Fraction(10) ** digits.numerator
    scaled = abs(value) * factor
    rounded = Fraction(math.floor(scaled + Fraction(1, 2)))
    return (rounded if value >= 0 else -rounded) / factor


_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Fraction]]] = {
    "sqrt": (1, 1, _sqrt),
    "cbrt": (1, 1, _cbrt),
    "abs": (1, 1, abs),
    "round": (1, 2, _round),
    "floor": (1, 1, lambda value: Fraction(math.floor(value))),
    "ceil": (1, 1, lambda value: Fraction(math.ceil(value))),
    "min": (1, 100, lambda *values: min(values)),
    "max": (1, 100, lambda *values: max(values)),
    "sum": (1, 100, lambda *values: sum(values, Fraction(0))),
    "avg": (1, 100, lambda *values: sum(values, Fraction(0)) / len(values)),
    "mean": (1, 100, lambda *values: sum(values, Fraction(0)) / len(values)),
    "average": (1, 100, lambda *values: sum(values, Fraction(0)) / len(values)),
    "pow": (2, 2, _power),
    "mod": (2, 2, _modulo),
    "factorial": (1, 1, _factorial),
    "exp": (1, 1, lambda value: _real(_CONTEXT.exp, value)),
    "ln": (1, 1, lambda value: _real(_CONTEXT.ln, value)),
    "log": (1, 2, _log),
    "log10": (1, 1, _log),
    "log2": (1, 1, lambda value: _log(value, Fraction(2))),
    "sin": (1, 1, _float(math.sin)),
    "cos": (1, 1, _float(math.cos)),
    "tan": (1, 1, _float(math.tan)),
}
_CONSTANTS: Mapping[str, Fraction] = {
    "pi": Fraction("3.141592653589793238462643383279503"),
    "e": Fraction("2.718281828459045235360287471352662"),
}
_NAMES = (frozenset(_FUNCTIONS) | frozenset(_CONSTANTS)) - {"mod"}
