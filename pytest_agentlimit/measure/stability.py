"""Whether a check is stable or flaky, or has not been run often enough to say (METHOD 2)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

StabilityLabel = Literal["stable_pass", "stable_fail", "flaky", "undetermined"]


class Stability(NamedTuple):
    """A label, and how many more equal outcomes it would take to leave `undetermined`."""

    label: StabilityLabel
    needed: int


def classify(passes: int, trials: int, theta: float = 0.9, confidence: float = 0.95) -> Stability:
    """Return what `passes` in `trials` show about a check.

    Both outcomes seen is `flaky`. Equal outcomes are stable once they prove, at `confidence`, that
    the outcome comes in a share of at least `theta` of runs; before that `undetermined`.
    Raises ValueError on counts or levels that make no sense. Source: METHOD 2.
    """
    if not 0 <= passes <= trials:
        raise ValueError(f"passes must lie between 0 and {trials} trials, not {passes}")
    if 0 < passes < trials:
        return Stability("flaky", 0)
    missing = trials_to_be_stable(theta, confidence) - trials
    if missing > 0:
        return Stability("undetermined", missing)
    return Stability("stable_pass" if passes else "stable_fail", 0)


def trials_to_be_stable(theta: float = 0.9, confidence: float = 0.95) -> int:
    """Return how many equal outcomes in a row prove a share of at least `theta`."""
    if not (0 < theta < 1 and 0 < confidence < 1):
        raise ValueError(f"theta and confidence lie between 0 and 1, not {theta}, {confidence}")
    # An exact quotient (.25 over .5) must not be lifted to the next whole number by rounding.
    return max(1, math.ceil(math.log(1 - confidence) / math.log(theta) - 1e-9))
