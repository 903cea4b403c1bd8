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
    return rng.choice((_attribute, _attribute, _policy, _place, _person, _instruction))(rng)


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
