"""Made-up words and ids, drawn from the generator of the trial: one seed, one task."""

from __future__ import annotations

from random import Random

_STARTS = ("b", "br", "d", "dr", "f", "g", "gl", "k", "l", "m", "n", "p", "pl", "r", "s", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u")
_ENDS = ("l", "m", "n", "r", "s", "x")
_LETTERS = "bcdfghjkmpqrtvwxz"


def made_up_words(rng: Random, count: int) -> list[str]:
    """Return `count` different pronounceable words in lower case that mean nothing.

    Each is one of more than a million, and none is contained in another.
    """
    found: list[str] = []
    while len(found) < count:
        parts = [rng.choice(_STARTS) + rng.choice(_VOWELS) for _ in range(3)]
        word = "".join(parts) + rng.choice(_ENDS)
        if not any(word in other or other in word for other in found):
            found.append(word)
    return found


def made_up_names(rng: Random, count: int) -> list[str]:
    """Return `count` different made-up names, each with a capital."""
    return [word.capitalize() for word in made_up_words(rng, count)]


def identifier(rng: Random, prefix: str) -> str:
    """Return an id such as `lot-qzkvhm`: letters only, so that it is never read as a number."""
    return f"{prefix}-" + "".join(rng.choices(_LETTERS, k=6))
