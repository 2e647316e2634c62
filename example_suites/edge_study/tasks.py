"""The tasks that are answered in words: sums, an order as JSON, facts over several turns."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from .words import hundreds, in_words, names, pseudo_word, some_day, thousands

_FRUITS = ("plums", "pears", "figs", "lemons", "dates", "melons", "grapes", "cherries")


@dataclass(frozen=True)
class Question:
    """A prompt and the one number that answers it."""

    prompt: str
    answer: int


def sum_task(rng: Random) -> Question:
    """Return an easy sum, such as 6000 + 417; its result is not in the prompt, and one of 7,192."""
    left, right = thousands(rng), hundreds(rng)
    return Question(f"What is {left} + {right}? Answer with the number only.", left + right)


def burst_task(rng: Random) -> list[Question]:
    """Return three easy sums with different results."""
    burst: dict[int, Question] = {}
    while len(burst) < 3:
        question = sum_task(rng)
        burst[question.answer] = question
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

    The sum was never said, and the first value of the corrected fact gives a wrong one.
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
