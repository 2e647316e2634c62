"""The evidence gate: a verdict on a threshold that may end a run early (METHOD 3).

We bet on good; a bad model wins twenty-fold at most one time in twenty, however often we look.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, NamedTuple

EvidenceVerdict = Literal["undecided", "pass", "fail", "inconclusive"]


class Hypotheses(NamedTuple):
    """The two scores, 0..1, that a gate tells apart."""

    bad: float
    good: float


def for_threshold(threshold: float) -> Hypotheses:
    """Return the scores a gate tells apart to judge a threshold: .8 gives .8 and .95.

    Raises ValueError unless the threshold lies between 0 and 1: no run of trials can prove a
    score of 1, and every model reaches 0. Source: METHOD 3.
    """
    if not 0 < threshold < 1:
        raise ValueError(
            "an evidence gate needs a threshold between 0 and 1, both left out, "
            f"not {threshold}: a score of 1 cannot be proven, and one of 0 needs no proof"
        )
    return Hypotheses(threshold, 1 - (1 - threshold) / 4)


class EvidenceGate:
    """Weighs trials one by one and decides after complete rounds, at any number of them.

    `pass` is wrong for a model at `bad` or below at most a share `alpha` of the time, `fail` for
    one at `good` or above at most `beta`; weights are relative to `max_weight`, the heaviest there
    is. Undecided after `max_trials` is `inconclusive`. Source: METHOD 3.
    """

    def __init__(
        self,
        bad: float,
        good: float,
        alpha: float = 0.05,
        beta: float = 0.05,
        max_weight: float = 1,
        *,
        max_trials: int | None = None,
    ) -> None:
        if not 0 < bad < good < 1:
            raise ValueError(f"an evidence gate needs 0 < bad < good < 1, not {bad} and {good}")
        if not (0 < alpha < 1 and 0 < beta < 1):
            raise ValueError(f"alpha and beta lie between 0 and 1, not {alpha} and {beta}")
        if not (math.isfinite(max_weight) and max_weight > 0):
            raise ValueError(f"the largest weight must be a positive number, not {max_weight}")
        if max_trials is not None and max_trials < 1:
            raise ValueError(f"max_trials must be 1 or more, not {max_trials}")
        self._for_pass = math.log(good / bad)
        self._for_fail = math.log((1 - good) / (1 - bad))
        self._to_pass, self._to_fail = -math.log(alpha), math.log(beta)
        self._max_weight = max_weight
        self._max_trials = max_trials
        # Exact sums: trials that arrive in another order must not come to another verdict.
        self._passed, self._failed = Fraction(0), Fraction(0)
        self._trials = 0
        self._verdict: EvidenceVerdict = "undecided"

    def add(self, passed: bool, weight: float = 1) -> None:
        """Take one trial; after a decision it is not counted.

        Raises ValueError on a weight below 0 or above the largest.
        """
        if not 0 <= weight <= self._max_weight:
            raise ValueError(f"a weight lies between 0 and {self._max_weight}, not {weight}")
        if self._verdict != "undecided":
            return
        self._trials += 1
        if passed:
            self._passed += Fraction(weight)
        else:
            self._failed += Fraction(weight)

    def end_round(self) -> None:
        """Decide if the evidence is enough: every check has had as many trials as any other."""
        if self._verdict != "undecided":
            return
        if self.log_odds >= self._to_pass:
            self._verdict = "pass"
        elif self.log_odds <= self._to_fail:
            self._verdict = "fail"
        elif self._max_trials is not None and self._trials >= self._max_trials:
            self._verdict = "inconclusive"

    @property
    def verdict(self) -> EvidenceVerdict:
        """The decision as of the last complete round."""
        return self._verdict

    @property
    def log_odds(self) -> float:
        """The evidence so far for good (above 0) or bad (below), as a natural logarithm."""
        passed, failed = (float(w) / self._max_weight for w in (self._passed, self._failed))
        return passed * self._for_pass + failed * self._for_fail

    @property
    def trials(self) -> int:
        """How many trials were counted."""
        return self._trials
