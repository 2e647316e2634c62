"""The tasks that are answered in words: capitals, sums, an order as JSON, facts to remember."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Any

from .words import hundreds, in_words, names, pseudo_word, some_day

_FRUITS = ("plums", "pears", "figs", "lemons", "dates", "melons", "grapes", "cherries")


# fmt: off
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin",
    "Portugal": "Lisbon", "Poland": "Warsaw", "Greece": "Athens", "Austria": "Vienna",
    "Hungary": "Budapest", "Sweden": "Stockholm", "Norway": "Oslo", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Iceland": "Reykjavik", "Ireland": "Dublin", "Latvia": "Riga",
    "Estonia": "Tallinn", "Lithuania": "Vilnius", "Belgium": "Brussels", "Croatia": "Zagreb",
    "Serbia": "Belgrade", "Bulgaria": "Sofia", "Romania": "Bucharest", "Turkey": "Ankara",
    "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Nepal": "Kathmandu", "Pakistan": "Islamabad", "Iran": "Tehran",
    "Iraq": "Baghdad", "Syria": "Damascus", "Lebanon": "Beirut", "Jordan": "Amman",
    "Egypt": "Cairo", "Libya": "Tripoli", "Morocco": "Rabat", "Kenya": "Nairobi",
    "Sudan": "Khartoum", "Ghana": "Accra", "Senegal": "Dakar", "Cuba": "Havana",
    "Canada": "Ottawa", "Peru": "Lima", "Uruguay": "Montevideo", "Venezuela": "Caracas",
}
# fmt: on


@dataclass(frozen=True)
class CapitalsTask:
    """A question about two countries, and their capitals in lower case."""

    prompt: str
    capitals: set[str]


def capitals_task(rng: Random) -> CapitalsTask:
    """Return a question after the capitals of two countries: one of 1,128 pairs.

    The one task that asks for knowledge, so that the smallest model that works at all can pass it.
    """
    first, second = rng.sample(list(CAPITALS), 2)
    prompt = f"What are the capitals of {first} and {second}?"
    return CapitalsTask(prompt, {CAPITALS[first].casefold(), CAPITALS[second].casefold()})


def capitals_in(text: str) -> set[str]:
    """Return the known capitals named in `text`, in lower case; naming them all is no answer."""
    words = set(re.findall(r"\w+", text.casefold()))
    return {capital.casefold() for capital in CAPITALS.values()} & words


@dataclass(frozen=True)
class Question:
    """A prompt and the one number that answers it."""

    prompt: str
    answer: int


def burst_task(rng: Random) -> list[Question]:
    """Return three small sums with different results.

    No result stands in its prompt. The likeliest one comes once in eleven, so three blind guesses
    are all right less than once in a thousand.
    """
    burst: dict[int, Question] = {}
    while len(burst) < 3:
        left, right = rng.randint(2, 12), rng.randint(2, 12)
        prompt = f"What is {left} + {right}? Answer with the number only."
        burst.setdefault(left + right, Question(prompt, left + right))
    return list(burst.values())


@dataclass(frozen=True)
class OrderTask:
    """A text, the schema of its JSON form, and the values that form must have."""

    prompt: str
    schema: dict[str, Any]
    expected: dict[str, Any]


_ORDER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "fruits": {"type": "array", "items": {"type": "string"}},
        "crates": {"type": "integer"},
        "delivery": {"type": "string"},
        "gift": {"type": "boolean"},
    },
    "required": ["customer", "fruits", "crates", "delivery", "gift"],
    "additionalProperties": False,
}


def order_task(rng: Random) -> OrderTask:
    """Return an order in prose, to be written as JSON.

    The crates are added up and the date is rewritten, so copying words from the text is not enough.
    """
    customer, day, gift = pseudo_word(rng).capitalize(), some_day(rng), rng.random() < 0.5
    lots = [(rng.randint(3, 19), fruit) for fruit in rng.sample(_FRUITS, 3)]
    first, second, third = (f"{count} crates of {fruit}" for count, fruit in lots)
    prompt = (
        f"{customer} orders {first}, {second} and {third}, to be delivered on {in_words(day)}. "
        f"The order is {'a' if gift else 'not a'} gift.\n\n"
        "Write this order as one JSON object with exactly these keys: customer (string), "
        "fruits (array of strings, in the order of the text), crates (integer, all crates "
        "together), delivery (string, YYYY-MM-DD), gift (boolean). "
        "Reply with the JSON object only: no other text and no code fence."
    )
    expected = {
        "customer": customer,
        "fruits": [fruit for _, fruit in lots],
        "crates": sum(count for count, _ in lots),
        "delivery": day.isoformat(),
        "gift": gift,
    }
    return OrderTask(prompt, _ORDER_SCHEMA, expected)


@dataclass(frozen=True)
class ContextTask:
    """Turns to be sent one by one, a last question, and the number that answers it."""

    turns: tuple[str, ...]
    question: str
    answer: int


def context_task(rng: Random) -> ContextTask:
    """Return facts to keep in mind, one corrected later, and a question that needs two of them.

    The sum was never said, and the first value of the corrected fact gives a wrong one. There are
    8 x 899 sums, all as likely.
    """
    first, second, other = names(rng, 3)
    old, new = rng.sample(range(2000, 10_000, 1000), 2)
    kept, noise = hundreds(rng), hundreds(rng)
    turns = (
        f"Note for later: the {first} store holds {old} bottles. Reply with OK.",
        f"Note for later: the {second} store holds {kept} bottles. Reply with OK.",
        f"The {other} store is closed; it held {noise} jars of paint. Reply with OK.",
        f"Correction: the {first} store holds {new} bottles now. Reply with OK.",
    )
    question = (
        f"How many bottles do the {first} store and the {second} store hold together now? "
        "Answer with the number only."
    )
    return ContextTask(turns, question, new + kept)
