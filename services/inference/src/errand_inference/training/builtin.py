"""Requests for the built-in tools, and the results those tools give."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from importlib import resources

from errand_inference.domain.chat import JsonValue, ToolCall, ToolDeclaration
from errand_inference.training import values, words
from errand_inference.training.requests import Request

UNITS = (
    ("miles", "kilometers"),
    ("kilometers", "miles"),
    ("km", "miles"),
    ("feet", "meters"),
    ("meters", "feet"),
    ("inches", "centimeters"),
    ("cm", "inches"),
    ("yards", "meters"),
    ("pounds", "kilograms"),
    ("kilograms", "pounds"),
    ("kg", "pounds"),
    ("lbs", "kg"),
    ("ounces", "grams"),
    ("grams", "ounces"),
    ("stones", "kilograms"),
    ("celsius", "fahrenheit"),
    ("fahrenheit", "celsius"),
    ("degrees celsius", "kelvin"),
    ("kelvin", "celsius"),
    ("liters", "gallons"),
    ("gallons", "liters"),
    ("cups", "milliliters"),
    ("pints", "liters"),
    ("ml", "cups"),
    ("mph", "km/h"),
    ("km/h", "mph"),
    ("knots", "mph"),
    ("acres", "hectares"),
    ("hectares", "acres"),
    ("square feet", "square meters"),
    ("hours", "minutes"),
    ("minutes", "seconds"),
    ("days", "hours"),
    ("weeks", "days"),
    ("gigabytes", "megabytes"),
    ("GB", "MB"),
    ("kilobytes", "bytes"),
    ("joules", "calories"),
    ("watts", "horsepower"),
    ("bar", "psi"),
    ("meters", "yards"),
    ("tons", "kilograms"),
    ("millimeters", "inches"),
    ("nautical miles", "kilometers"),
    ("years", "days"),
    ("tablespoons", "milliliters"),
)

_ZONES = "UTC,GMT,EST,PST,CET,Europe/Paris,America/New_York,Asia/Tokyo,Australia/Sydney,Asia/Kolkata,Germany,Japan,Brazil,India,California".split(
    ","
)


def declarations() -> tuple[ToolDeclaration, ...]:
    """The built-in tools in the order in which the default agent declares them."""
    text = resources.files(__package__).joinpath("builtin_tools.json").read_text(encoding="utf-8")
    return tuple(ToolDeclaration(t["name"], t["description"], t["parameters"]) for t in json.loads(text))


def _ask(rng: random.Random, forms: tuple[str, ...], **said: object) -> str:
    text = rng.choice(forms)
    for name, value in said.items():
        text = text.replace("{" + name + "}", str(value))
    style = rng.random()
    return text if style < 0.2 else text[0].upper() + text[1:]


def _number(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return str(rng.randint(0, rng.choice((12, 100, 1000, 99999))))
    return f"{rng.uniform(0, 500):.{rng.randint(1, 2)}f}"


_CALCULATE = (
    "what is {e}",
    "what is {e}?",
    "what's {e}?",
    "calculate {e}",
    "compute {e}",
    "how much is {e}?",
    "please calculate {e}",
    "{e} = ?",
    "{e}",
    "{e}?",
    "can you work out {e}?",
    "evaluate {e}",
    "tell me {e}",
    "solve {e}",
    "I need the result of {e}",
    "use the calculator for {e}",
    "what does {e} equal?",
    "give me {e}",
)
_SPOKEN_OPERATORS = (
    ("plus", "+"),
    ("minus", "-"),
    ("times", "*"),
    ("divided by", "/"),
    ("multiplied by", "*"),
    ("added to", "+"),
    ("to the power of", "**"),
    ("over", "/"),
)


def _verbatim_expression(rng: random.Random) -> tuple[str, str]:
    expression = _number(rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        operator = rng.choice(("+", "-", "*", "/", "**") if rng.random() < 0.15 else ("+", "-", "*", "/"))
        gap = " " if rng.random() < 0.8 else ""
        expression = f"{expression}{gap}{operator}{gap}{_number(rng)}"
        if rng.random() < 0.2:
            expression = f"({expression})"
    return expression, expression


def _spoken_expression(rng: random.Random) -> tuple[str, str]:
    spoken = formal = _number(rng)
    for _ in range(rng.choice((1, 1, 1, 2))):
        word, sign = rng.choice(_SPOKEN_OPERATORS)
        number = _number(rng)
        spoken, formal = f"{spoken} {word} {number}", f"{formal} {sign} {number}"
    return spoken, formal


def _named_expression(rng: random.Random) -> tuple[str, str]:
    a, b = _number(rng), _number(rng)
    return rng.choice(
        (
            (f"{a}% of {b}", f"{a} / 100 * {b}"),
            (f"{a} percent of {b}", f"{a} / 100 * {b}"),
            (f"the square root of {a}", f"sqrt({a})"),
            (f"square root of {a}", f"sqrt({a})"),
            (f"the sum of {a} and {b}", f"{a} + {b}"),
            (f"the product of {a} and {b}", f"{a} * {b}"),
            (f"the difference between {a} and {b}", f"{a} - {b}"),
            (f"{a} squared", f"{a} ** 2"),
            (f"{a} cubed", f"{a} ** 3"),
            (f"half of {a}", f"{a} / 2"),
            (f"double {a}", f"{a} * 2"),
            (f"sqrt({a})", f"sqrt({a})"),
        )
    )


def calculator(rng: random.Random) -> Request:
    draw = rng.choice((_verbatim_expression, _verbatim_expression, _spoken_expression, _named_expression))
    spoken, formal = draw(rng)
    return Request(_ask(rng, _CALCULATE, e=spoken), ToolCall("calculator", {"expression": formal}))


_CONVERT = (
    "convert {v} {f} to {t}",
    "convert {v} {f} into {t}",
    "how many {t} are {v} {f}?",
    "how many {t} is {v} {f}?",
    "what is {v} {f} in {t}?",
    "what's {v} {f} in {t}?",
    "{v} {f} in {t}",
    "{v} {f} to {t}",
    "please convert {v} {f} to {t}",
    "how much is {v} {f} in {t}?",
    "change {v} {f} to {t}",
    "express {v} {f} in {t}",
    "can you convert {v} {f} to {t}?",
    "turn {v} {f} into {t}",
    "I have {v} {f}, how much is that in {t}?",
    "how many {t} are there in {v} {f}?",
)


def _plain_number(rng: random.Random) -> float | int:
    return (
        rng.randint(1, rng.choice((20, 100, 5000)))
        if rng.random() < 0.7
        else round(rng.uniform(0.1, 300), rng.randint(1, 2))
    )


def convert_units(rng: random.Random) -> Request:
    source, target = rng.choice(UNITS)
    value = _plain_number(rng)
    text = _ask(rng, _CONVERT, v=value, f=source, t=target)
    return Request(text, ToolCall("convert_units", {"value": value, "from_unit": source, "to_unit": target}))


_TIME = (
    "what time is it in {p}?",
    "what's the time in {p}?",
    "current time in {p}",
    "tell me the time in {p}",
    "time in {p}",
    "what is the current time in {p}?",
    "what is the date in {p}?",
    "what's the local time in {p} right now?",
    "how late is it in {p}?",
    "can you tell me what time it is in {p}?",
    "what day is it in {p}?",
    "give me the current time in {p}",
    "which time do they have in {p} now?",
    "{p} time please",
)


def current_time(rng: random.Random) -> Request:
    if rng.random() < 0.08:
        text = _ask(
            rng,
            (
                "what time is it?",
                "what's the time?",
                "what is today's date?",
                "tell me the current time",
                "what time is it now?",
            ),
        )
        return Request(text, ToolCall("current_time", {"location": "UTC"}))
    place = rng.choice(_ZONES) if rng.random() < 0.25 else values.city(rng)
    return Request(_ask(rng, _TIME, p=place), ToolCall("current_time", {"location": place}))


_DAYS = (
    "how many days are there between {a} and {b}?",
    "how many days between {a} and {b}",
    "days from {a} to {b}",
    "how many days from {a} to {b}?",
    "count the days between {a} and {b}",
    "what is the difference in days between {a} and {b}?",
    "how long is it from {a} until {b}?",
    "how many days is it from {a} to {b}?",
    "number of days between {a} and {b}",
    "tell me how many days lie between {a} and {b}",
)


def _spoken_date(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return values.date(rng)
    month, day, year = rng.choice(words.MONTHS), rng.randint(1, 28), rng.randint(2019, 2031)
    return rng.choice((f"{month} {day}, {year}", f"{day} {month} {year}", f"{month} {day} {year}"))


def date_difference(rng: random.Random) -> Request:
    start, end = _spoken_date(rng), _spoken_date(rng)
    return Request(
        _ask(rng, _DAYS, a=start, b=end),
        ToolCall("date_difference", {"start_date": start, "end_date": end}),
    )


_RUN = (
    "run this Python code: {c}",
    "run this python: {c}",
    "execute {c}",
    "run {c}",
    "what does this Python code print? {c}",
    "execute this code: {c}",
    "run the code `{c}`",
    "please run this Python code:\n{c}",
    "evaluate this in Python: {c}",
    "use Python to run {c}",
    "what is the output of {c}",
    "run python code {c}",
    "execute the Python code `{c}`",
    "can you run this? {c}",
)


def _code(rng: random.Random) -> str:
    a, b, name = rng.randint(1, 50), rng.randint(2, 100), values.word(rng)
    items = [rng.randint(0, 99) for _ in range(rng.randint(2, 5))]
    return rng.choice(
        (
            f"print({a} + {b})",
            f"print('{name}')",
            f'print("{name}".upper())',
            f"sum(range({b}))",
            f"print(sum({items}))",
            f"max({items})",
            f"sorted({items})",
            f"len('{name}')",
            f"[x * {a} for x in range({b % 9 + 2})]",
            f"x = {a}\nprint(x * {b})",
            f"'{name}'[::-1]",
            f"{name} = {a}\n{name} ** 2",
            f"for i in range({a % 5 + 1}):\n    print(i)",
            f"print(len({items}))",
            f"{a} % {b}",
            f"print(2 ** {a})",
            f"sum(i * i for i in range({b}))",
            f"print([i for i in range({a}) if i % {b % 5 + 2} == 0])",
            f"'{name}'.replace('{name[0]}', 'x')",
            f"abs(-{a})",
            f"print('{name}' * {a % 4 + 2})",
            f"min({items})",
            f"def f(x):\n    return x + {a}\nf({b})",
        )
    )


def run_python(rng: random.Random) -> Request:
    code = _code(rng)
    return Request(_ask(rng, _RUN, c=code), ToolCall("run_python", {"code": code}))


_COUNT = (
    'how many words are in "{x}"?',
    "how many words does '{x}' have?",
    'count the words in "{x}"',
    'text statistics for "{x}"',
    'count the characters of "{x}"',
    'how many characters are in "{x}"?',
    'how long is the text "{x}"?',
    "give me the word count of: {x}",
    "word count for '{x}'",
    'analyze the text "{x}"',
    "how many sentences are in this text: {x}",
    'count words: "{x}"',
    'how many letters are in "{x}"?',
    "statistics of this text: {x}",
)


def _free_text(rng: random.Random) -> str:
    parts = [values.sentence(rng) for _ in range(rng.choice((1, 1, 1, 2)))]
    text = ". ".join(parts)
    if rng.random() < 0.15:
        text = rng.choice(
            (
                "the quick brown fox jumps over the lazy dog",
                "to be or not to be",
                "hello world",
                "I like green tea",
            )
        )
    return text + ("." if rng.random() < 0.3 else "")


def text_statistics(rng: random.Random) -> Request:
    text = _free_text(rng)
    return Request(_ask(rng, _COUNT, x=text), ToolCall("text_statistics", {"text": text}))


_SEARCH = (
    "search the knowledge base for {q}",
    "search our documents for {q}",
    "look up {q} in the knowledge base",
    "what do our documents say about {q}?",
    "find {q} in the manuals",
    "search knowledge for {q}",
    "look in the docs for {q}",
    "what does the knowledge base say about {q}?",
    "check our policies about {q}",
    "find information about {q} in our documents",
    "search the documentation for {q}",
    "look for {q} in our notes",
    "what do the manuals say about {q}?",
    "search for {q} in the knowledge base",
)


def search_knowledge(rng: random.Random) -> Request:
    query = (
        values.phrase(rng)
        if rng.random() < 0.7
        else f"{rng.choice(('refund', 'return', 'privacy', 'travel', 'vacation', 'security', 'parking', 'warranty'))} {rng.choice(('policy', 'rules', 'process', 'period', 'form'))}"
    )
    return Request(_ask(rng, _SEARCH, q=query), ToolCall("search_knowledge", {"query": query}))


_FETCH = (
    "fetch {u}",
    "get the page {u}",
    "open {u}",
    "download {u}",
    "what is on {u}?",
    "read the page at {u}",
    "send a GET request to {u}",
    "load {u}",
    "fetch the URL {u}",
    "http get {u}",
    "please fetch {u}",
    "show me the content of {u}",
    "retrieve {u}",
    "get {u}",
    "what does {u} say?",
    "make an HTTP GET request to {u}",
)


def http_get(rng: random.Random) -> Request:
    address = values.url(rng)
    return Request(_ask(rng, _FETCH, u=address), ToolCall("http_get", {"url": address}))


DRAWS: Mapping[str, Callable[[random.Random], Request]] = {
    draw.__name__: draw
    for draw in (
        calculator,
        convert_units,
        current_time,
        date_difference,
        run_python,
        text_statistics,
        search_knowledge,
        http_get,
    )
}


def draw_result(rng: random.Random, call: ToolCall) -> dict[str, JsonValue]:
    """A result of the shape the tool gives; its values are drawn, as a model must copy and not compute."""
    arguments = call.arguments
    shapes: Mapping[str, Callable[[], dict[str, JsonValue]]] = {
        "calculator": lambda: {"result": values.amount(rng) if rng.random() < 0.8 else rng.randint(0, 10**7)},
        "convert_units": lambda: {
            "result": values.amount(rng),
            "unit": str(arguments["to_unit"]).rstrip("s"),
        },
        "current_time": lambda: {
            "location": arguments["location"],
            "time": f"{values.date(rng)} {values.time(rng)}",
            "timezone": rng.choice(_ZONES[5:10]),
        },
        "date_difference": lambda: {"days": rng.randint(-50, 4000)},
        "run_python": lambda: _python_result(rng),
        "text_statistics": lambda: {
            "characters": rng.randint(5, 300),
            "sentences": rng.randint(1, 5),
            "words": rng.randint(1, 60),
        },
        "http_get": lambda: {"body": f"{values.sentence(rng)}.", "status": 200},
    }
    return shapes[call.name]()


def _python_result(rng: random.Random) -> dict[str, JsonValue]:
    if rng.random() < 0.5:
        return {
            "result": None,
            "stdout": rng.choice((values.word(rng), str(values.count(rng)), str(values.amount(rng)))),
        }
    return {
        "result": rng.choice((values.count(rng), values.word(rng), values.amount(rng))),
        "stdout": "",
    }


def answer(call: ToolCall, result: Mapping[str, JsonValue]) -> str:
    """The sentence that tells the user this result."""
    if call.name == "current_time":
        return f"In {result['location']} it is {result['time']}."
    if call.name == "date_difference":
        return f"There are {result['days']} days between the two dates."
    if call.name == "convert_units":
        return f"{call.arguments['value']} {call.arguments['from_unit']} is {result['result']} {result['unit']}."
    if call.name == "text_statistics":
        return f"The text has {result['words']} words, {result['characters']} characters and {result['sentences']} sentences."
    if call.name == "http_get":
        return f"The page says: {result['body']}"
    if call.name == "run_python" and result["result"] is None:
        return f"The output is {result['stdout']}."
    return f"The result is {result['result']}."
