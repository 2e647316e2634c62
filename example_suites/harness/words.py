"""Made-up words and ids, drawn from the generator of the trial: one seed, one task."""

from __future__ import annotations

from random import Random

_CONSONANTS = "bdfgklmnprtvz"
_VOWELS = "aeiou"
_LETTERS = "bcdfghjkmpqrtvwxz"


def made_up_words(rng: Random, count: int) -> list[str]:
    """Return `count` words of seven letters in lower case; each is one of 3.5 million.

    They mean nothing, all differ, and none ends in `s`, so that a plural is another word.
    """
    found: dict[str, None] = {}
    while len(found) < count:
        parts = [rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(3)]
        found["".join(parts) + rng.choice(_CONSONANTS)] = None
    return list(found)


def identifier(rng: Random, prefix: str) -> str:
    """Return an id such as `run-qzkvhm`: letters only, so that it is never read as a number."""
    return f"{prefix}-" + "".join(rng.choices(_LETTERS, k=6))
