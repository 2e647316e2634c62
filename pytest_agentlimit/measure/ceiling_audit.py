"""Whether the rungs below a ceiling hold: the prefix audit of a ladder (METHOD 5).

The curves of the search only fall. A model that fails an easy rung and passes harder ones fits none
of them, so every rung below the ceiling is tried, and one with a miss until it is cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pytest_agentlimit.measure.evidence import EvidenceGate

ALPHA = 0.02
GAP = 0.3
LEAST_TRIALS = 2
MOST_TRIALS = 12
"""A rung still open after as many trials stays so: not proven to hold, nor to fail."""

AuditVerdict = Literal["holds", "not monotone", "not finished", "not needed"]


class Tally(NamedTuple):
    """Trials of one level, and how many of them passed."""

    level: int
    passes: int
    trials: int


class Audit(NamedTuple):
    """What the rungs below a ceiling showed.

    `holds`: none was found to fail. `not monotone`: the model fails at level `dip`, the lowest
    such, whatever it does above. `not finished`: too few trials for either. `not needed`: there is
    no rung below, or a question was answered without them.
    """

    verdict: AuditVerdict
    dip: int | None = None
    doubtful: tuple[int, ...] = ()
    """Levels with misses that the evidence gate left open."""


class Look(NamedTuple):
    """How an audit stands, and the rung (from 0) that needs the next trial, None when over."""

    audit: Audit
    wanted: int | None


def audit(below: Sequence[Tally], reliability: float) -> Look:
    """Return how the rungs `below` a ceiling stand, lowest first; the lowest that fails ends it.

    Every trial of a rung counts, those of the search too: the gate may be looked at at any time.
    """
    if not below:
        return Look(Audit("not needed"), None)
    doubtful: list[int] = []
    for rung, tally in enumerate(below):
        if tally.trials < LEAST_TRIALS:
            return Look(Audit("not finished", None, tuple(doubtful)), rung)
        if tally.passes == tally.trials:
            continue
        gate = _gate(tally, reliability)
        if gate.verdict == "fail":
            return Look(Audit("not monotone", tally.level, tuple(doubtful)), None)
        if gate.verdict == "undecided" and _may_still_fail(tally, reliability):
            return Look(Audit("not finished", None, tuple(doubtful)), rung)
        if gate.verdict != "pass":
            doubtful.append(tally.level)
    return Look(Audit("holds", None, tuple(doubtful)), None)


def _may_still_fail(tally: Tally, reliability: float) -> bool:
    """Return whether misses in all trials that are left would make the rung fail."""
    worst = tally._replace(trials=MOST_TRIALS)
    return _gate(worst, reliability).verdict == "fail"


def _gate(tally: Tally, reliability: float) -> EvidenceGate:
    # A reliability of .3 or less has no room for the gap: a quarter of it is as clear a failure.
    bad = max(reliability - GAP, reliability / 4)
    gate = EvidenceGate(bad, reliability, ALPHA, ALPHA, max_trials=MOST_TRIALS)
    for number in range(tally.trials):
        gate.add(number < tally.passes)
    gate.end_round()
    return gate
