"""Small invented documents, questions on them, and the sentence that answers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from errand_inference.training import values, words

NOT_IN_SOURCES = "The sources do not say."


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a document and questions that it answers."""

    sentence: str
    questions: tuple[str, ...]


def draw_fact(rng: random.Random) -> Fact:
    """A fact about an invented thing, place, person or rule."""
    kinds = (_attribute, _policy, _place, _person, _instruction, _value, _value, _duty, _duty, _right, _span, _span)
    return rng.choice(kinds)(rng)


def _thing(rng: random.Random) -> str:
    name = values.word(rng).capitalize() if rng.random() < 0.6 else rng.choice(words.ADJECTIVES).capitalize()
    return f"{name} {rng.choice(words.NOUNS)}"


def _measure(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{values.count(rng)} days",
            f"{values.small(rng)} years",
            f"{values.amount(rng)} {values.currency(rng)}",
            f"{values.amount(rng)} kilograms",
            values.date(rng),
            values.code(rng),
            values.phrase(rng),
            values.person(rng),
            f"{values.count(rng)} meters",
            values.city(rng),
        )
    )


def _attribute(rng: random.Random) -> Fact:
    thing, value = _thing(rng), _measure(rng)
    attribute = rng.choice(
        "price,warranty,weight,color,owner,launch date,maximum load,serial number,delivery time,battery life,size,password,capacity,cost,origin,name,deadline,length,height,version".split(
            ","
        )
    )
    verb = rng.choice(("is", "is", "is", "amounts to", "was set to"))
    return Fact(
        f"The {attribute} of the {thing} {verb} {value}.",
        (
            f"What is the {attribute} of the {thing}?",
            f"Tell me the {attribute} of the {thing}.",
            f"what {attribute} does the {thing} have?",
            f"Which {attribute} has the {thing}?",
            f"Do you know the {thing} {attribute}?",
            f"{thing} {attribute}?",
        ),
    )


def _policy(rng: random.Random) -> Fact:
    who = rng.choice(("Employees", "Customers", "Members", "Students", "Visitors", "Guests"))
    act = rng.choice(
        (
            "return goods",
            "request a refund",
            "take vacation",
            "park",
            "cancel an order",
            "work from home",
            "claim expenses",
            "renew a contract",
            "change the password",
            "borrow books",
            "use the gym",
        )
    )
    limit = rng.choice(
        (
            f"within {values.count(rng)} days",
            f"up to {values.small(rng)} times a year",
            f"after {values.time(rng)}",
            f"until {values.date(rng)}",
            f"only in {values.city(rng)}",
        )
    )
    modal = rng.choice(("can", "may", "must"))
    return Fact(
        f"{who} {modal} {act} {limit}.",
        (
            f"When can {who.lower()} {act}?",
            f"Can {who.lower()} {act}?",
            f"What is the rule to {act}?",
            f"How can {who.lower()} {act}?",
            f"what does the policy say if {who.lower()} want to {act}?",
            f"Am I allowed to {act}?",
        ),
    )


def _place(rng: random.Random) -> Fact:
    office = rng.choice(
        (
            "office",
            "warehouse",
            "library",
            "cafeteria",
            "help desk",
            "server room",
            "laboratory",
            "reception",
            "shop",
            "parking deck",
        )
    )
    where = rng.choice(
        (
            f"on floor {values.small(rng)}",
            f"in building {values.code(rng)}",
            f"in {values.city(rng)}",
            f"next to the {rng.choice(words.NOUNS)}",
        )
    )
    if rng.random() < 0.5:
        return Fact(
            f"The {office} is {where}.",
            (
                f"Where is the {office}?",
                f"Where can I find the {office}?",
                f"where is our {office}",
            ),
        )
    opening = f"from {values.time(rng)} to {values.time(rng)}"
    return Fact(
        f"The {office} is open {opening}.",
        (
            f"When is the {office} open?",
            f"What are the opening hours of the {office}?",
            f"Until when is the {office} open?",
        ),
    )


def _person(rng: random.Random) -> Fact:
    name, thing = values.person(rng), rng.choice(words.NOUNS)
    role = rng.choice(("head", "manager", "owner", "contact", "author", "designer", "founder"))
    return Fact(
        f"{name} is the {role} of the {thing} team.",
        (
            f"Who is the {role} of the {thing} team?",
            f"What is the name of the {thing} team {role}?",
            f"Who is {role} of {thing}?",
        ),
    )


def _instruction(rng: random.Random) -> Fact:
    verb, noun, tool = rng.choice(words.VERBS), rng.choice(words.NOUNS), values.phrase(rng)
    return Fact(
        f"To {verb} the {noun}, use the {tool}.",
        (
            f"How do I {verb} the {noun}?",
            f"How can I {verb} the {noun}?",
            f"What do I need to {verb} the {noun}?",
            f"how to {verb} the {noun}",
        ),
    )


def _owner(rng: random.Random) -> str:
    """ "The daily meal allowance", "Our Zorvan support team"."""
    kind = rng.choice((rng.choice(words.ADJECTIVES), values.word(rng).capitalize(), "", ""))
    thing = (
        rng.choice(words.COMPOUNDS) if rng.random() < 0.75 else f"{rng.choice(words.NOUNS)} {rng.choice(words.NOUNS)}"
    )
    return " ".join(part for part in (rng.choice(("The", "The", "Our", "Your", "Each")), kind, thing) if part)


def _within(rng: random.Random) -> str:
    unit = rng.choice(("days", "hours", "weeks", "months", "years", "minutes"))
    return rng.choice(
        (
            f"within {values.count(rng)} {unit}",
            f"after {values.small(rng)} {unit}",
            f"before {values.time(rng)}",
            f"every {values.small(rng)} {unit}",
            f"until {values.date(rng)}",
            f"on flights longer than {values.small(rng)} hours",
            f"for at most {values.count(rng)} {unit}",
            rng.choice(words.PLACES),
            f"only with {values.phrase(rng)}",
        )
    )


def _value(rng: random.Random) -> Fact:
    owner = _owner(rng)
    unit = rng.choice(
        (
            "euros",
            "dollars",
            "days",
            "hours",
            "percent",
            "kilograms",
            "characters",
            "meters",
            "weeks",
            "pages",
            "people",
        )
    )
    value = rng.choice((f"{values.amount(rng)} {unit}", f"{values.count(rng)} {unit}", _measure(rng)))
    spoken = owner[0].lower() + owner[1:]
    bare = spoken.split(" ", 1)[1]
    return Fact(
        f"{owner} {rng.choice(('is', 'is', 'is', 'was', 'will be'))} {value}.",
        (
            f"What is {spoken}?",
            f"What is the {bare}?",
            f"How much is the {bare}?",
            f"how high is the {bare}?",
            f"Tell me the {bare}.",
            f"{bare}?",
            f"What's the {bare}?",
            f"Do you know the {bare}?",
            f"How long is the {bare}?",
            f"What about the {bare}?",
        ),
    )


def _duty(rng: random.Random) -> Fact:
    things, done, within = rng.choice(words.THINGS), rng.choice(words.PAST_VERBS), _within(rng)
    modal = rng.choice(("must", "must", "can", "should", "have to"))
    return Fact(
        f"{things.capitalize()} {modal} be {done} {within}.",
        (
            f"When must {things} be {done}?",
            f"Where can {things} be {done}?",
            f"How long can {things} be {done}?",
            f"What is the rule for {things}?",
            f"When do {things} have to be {done}?",
            f"By when should {things} be {done}?",
            f"What do I do with {things}?",
            f"how are {things} {done}?",
        ),
    )


def _right(rng: random.Random) -> Fact:
    who, act, within = rng.choice(words.PEOPLE), rng.choice(words.ACTIONS), _within(rng)
    modal = rng.choice(("may", "can", "may not", "must not", "are allowed to"))
    return Fact(
        f"{who.capitalize()} {modal} {act} {within}.",
        (
            f"May {who} {act}?",
            f"Can {who} {act}?",
            f"When may {who} {act}?",
            f"Who may {act}?",
            f"Is it allowed to {act}?",
            f"When can I {act}?",
            f"Can I {act}?",
            f"What are the rules to {act}?",
        ),
    )


def _span(rng: random.Random) -> Fact:
    owner = _owner(rng)
    spoken = owner[0].lower() + owner[1:]
    verb, asked = rng.choice(
        (
            ("starts at", "When does {x} start?"),
            ("ends on", "When does {x} end?"),
            ("costs", "How much does {x} cost?"),
            ("lasts", "How long does {x} last?"),
            ("takes", "How long does {x} take?"),
            ("needs", "What does {x} need?"),
            ("covers", "What does {x} cover?"),
            ("includes", "What does {x} include?"),
            ("belongs to", "Who does {x} belong to?"),
            ("weighs", "How much does {x} weigh?"),
        )
    )
    return Fact(
        f"{owner} {verb} {_measure(rng)}.",
        (asked.format(x=spoken), asked.format(x=spoken).lower(), f"Tell me about {spoken}.", f"What about {spoken}?"),
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """Numbered sources, a question, and the answer with its citation."""

    sources: tuple[str, ...]
    question: str
    answer: str

    def user_text(self) -> str:
        """The user turn as the agent words it."""
        return f"{numbered(self.sources)}\n\n{self.question}"


def numbered(sources: tuple[str, ...]) -> str:
    """Sources as the prompt lists them."""
    return "Sources:\n" + "\n".join(f"[{number}] {text}" for number, text in enumerate(sources, start=1))


def draw_sources(rng: random.Random, count: int, fact: Fact | None) -> tuple[tuple[str, ...], int]:
    """`count` sources of one to three sentences; `fact` stands in the one whose number is returned."""
    sentences = [[draw_fact(rng).sentence for _ in range(rng.choice((0, 1, 1, 2)))] for _ in range(count)]
    position = rng.randrange(count)
    if fact is not None:
        sentences[position].insert(rng.randint(0, len(sentences[position])), fact.sentence)
    filled = tuple(" ".join(lines) if lines else draw_fact(rng).sentence for lines in sentences)
    return filled, position + 1


def draw_reading(rng: random.Random) -> Reading:
    """A question on one to four sources; one in eight cannot be answered from them."""
    fact = draw_fact(rng)
    question = rng.choice(fact.questions)
    count = rng.choice((1, 1, 2, 2, 3, 4))
    if rng.random() < 0.12:
        return Reading(draw_sources(rng, count, None)[0], question, NOT_IN_SOURCES)
    sources, number = draw_sources(rng, count, fact)
    return Reading(sources, question, f"{fact.sentence} [{number}]")
