"""Random words, identifiers and dates: what makes every task new, so nothing can be memorised.

Everything is drawn from the `random.Random` of the trial, so a seed gives the same task again.
"""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

_CONSONANTS = "bdfklmnprstvz"
_VOWELS = "aeiou"
_FIRST_DAY = date(2027, 1, 1)
_DAYS = 1096
# Spelled out here because strftime follows the locale of the machine.
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def pseudo_word(rng: Random) -> str:
    """Return a pronounceable word of six letters that means nothing; one of 274,625."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(3))


def names(rng: Random, count: int) -> list[str]:
    """Return `count` different capitalised pseudo-words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[pseudo_word(rng).capitalize()] = None
    return list(found)


def identifier(rng: Random, prefix: str) -> str:
    """Return an opaque id such as `desk-qzkvhm`; letters only, so it is never read as a number."""
    return prefix + "-" + "".join(rng.choice("bcdfghjkmpqrtvwxz") for _ in range(6))


def some_day(rng: Random) -> date:
    """Return one of 1,096 days from 2027 on."""
    return _FIRST_DAY + timedelta(days=rng.randrange(_DAYS))


def in_words(day: date) -> str:
    """Return a date as people write it, `3 May 2027`: no tool below takes it in that form."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def hundreds(rng: Random) -> int:
    """Return a number from 101 to 999, which is easily added to a round thousand."""
    return rng.randint(101, 999)
