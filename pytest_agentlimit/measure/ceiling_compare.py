"""Two models on the same ladder: which of them gets further up (METHOD 5)."""

from __future__ import annotations

from typing import Protocol

from pytest_agentlimit.errors import UsageProblem


class Climbed(Protocol):
    """What two climbs are compared by: a Ceiling has it, and so has one read from a report."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the ladder, from the lowest."""

    @property
    def reliability(self) -> float:
        """The chance to pass that the ceiling is about."""

    @property
    def rungs(self) -> tuple[float, ...]:
        """The chance that the ceiling is 0, 1, 2 … rungs high."""


def probability_higher(a: Climbed, b: Climbed) -> float:
    """Return the chance that the ceiling of `a` is higher than that of `b`.

    With `probability_tied(a, b)` and `probability_higher(b, a)` it adds up to 1. Raises
    UsageProblem unless both climbed the same levels at the same reliability. Source: METHOD 5.
    """
    _check_comparable(a, b)
    below, found = 0.0, 0.0
    for of_a, of_b in zip(a.rungs, b.rungs, strict=True):
        found += of_a * below
        below += of_b
    return min(1.0, found)


def probability_tied(a: Climbed, b: Climbed) -> float:
    """Return the chance that both ceilings are the same rung; errors as `probability_higher`."""
    _check_comparable(a, b)
    return min(1.0, sum(x * y for x, y in zip(a.rungs, b.rungs, strict=True)))


def _check_comparable(a: Climbed, b: Climbed) -> None:
    if a.levels != b.levels or a.reliability != b.reliability:
        raise UsageProblem(
            "two ceilings compare if they were climbed on the same levels at the same reliability, "
            f"not {[*a.levels]} at {a.reliability} and {[*b.levels]} at {b.reliability}: climb "
            "both again"
        )
