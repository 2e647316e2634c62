"""The search for a ladder's ceiling: where to try next, and what is known when it ends (METHOD 5).

The ceiling is the highest level that a model passes with a given reliability, there and on all
lower rungs. Trials go where they tell most about it for their cost; then the rungs below are
audited, and a few trials tell whether the fall is a cliff or a decay.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.measure.ceiling_audit import Audit, Tally, audit
from pytest_agentlimit.measure.ceiling_grid import grid, quantile

Shape = Literal["cliff", "decay", "unclear"]
Ended = Literal["certain", "cap", "open"]
AtLeastVerdict = Literal["pass", "fail", "inconclusive"]

MOST_LEVELS = 32
HIGHEST_LEVEL = 2**30
LEAST_TRIALS = 8
MOST_TRIALS = 60
WIDTH = 2
"""The search is certain once its 90 % interval spans no more rungs than this, nor than a third of
the ladder."""
SHAPE_TRIALS = 12
CLIFF_FROM, DECAY_UP_TO = 0.8, 0.2
SURE = 0.98
"""A posterior this sure answers "at least". At .95, wrong answers pass 5 % in simulations: chances
up to .1 beside the reliability are called too soon."""
LEAST_TRIALS_TO_ANSWER = 5
MOST_TRIALS_TO_ANSWER = 40


class Ceiling(NamedTuple):
    """How far up a ladder a model gets; levels, not rungs, and 0 for "not even the first"."""

    ceiling: int
    """Posterior median; the rung before the dip if the ladder is not monotone."""
    low: int
    """Lower end of the 90 % interval."""
    high: int
    """Upper end of the 90 % interval."""
    shape: Shape
    """How it falls; unclear too when no fall was seen, or none was looked for."""
    reliability: float
    trials: int
    steps: int
    """Sum of the levels of all trials: what they cost."""
    counts: tuple[Tally, ...]
    """Trials of each level, in order."""
    rungs: tuple[float, ...]
    """The chance that the ceiling is 0, 1, 2 … rungs high."""
    audit: Audit
    """What the rungs below showed."""
    p_cliff: float | None
    """The chance that the fall is a cliff; None when no fall was seen."""
    ended: Ended
    """Whether the search came to an end by itself, by its most trials, or has not."""
    at_least: int | None = None
    """The level that was asked for, None if the ceiling was to be found."""
    verdict: AtLeastVerdict | None = None
    """Whether the ceiling is at least that; None if not asked, or not finished."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the ladder, from the lowest."""
        return tuple(tally.level for tally in self.counts)


class CeilingSearch:
    """Finds a ceiling: run a trial at `next_level()`, `record` it, until that returns None.

    The same outcomes lead to the same levels; `seed` breaks exact ties only. To take up a search
    that was cut short, answer its proposals from the record. Trials of one batch may be recorded in
    any order: where to go on is decided when the next ones are asked for.

    With `at_least`, a level of the ladder, the search ends as soon as it is clear whether the
    ceiling is that high: .98 sure after 5 trials or more and the rungs up to it audited, or 40
    trials. No shape is looked for. In simulations less than 1 % of answers are wrong, more than
    5 % only where the chance to pass that level is within .1 of the reliability.

    Raises UsageProblem on levels, a reliability or a question that make no sense. Source: METHOD 5.
    """

    def __init__(
        self,
        levels: Sequence[int],
        reliability: float = 0.8,
        seed: int = 0,
        *,
        at_least: int | None = None,
    ) -> None:
        self._levels = _sound_levels(levels)
        if not 0 < reliability < 1:
            raise UsageProblem(
                f"a reliability lies between 0 and 1, both left out, not {reliability}: "
                "write .8 for a ceiling that holds 4 times in 5"
            )
        self._rung_of = {level: rung for rung, level in enumerate(self._levels)}
        self._asked = at_least
        self._goal = None if at_least is None else 1 + self._sound_rung(at_least)
        self._grid = grid(self._levels, reliability)
        self._reliability, self._seed = reliability, seed
        self._counts = tuple(Tally(level, 0, 0) for level in self._levels)
        self._trials = 0
        self._logs = self._grid.prior
        self._weights: list[float] | None = None
        self._phase: Literal["search", "audit", "shape", "over"] = "search"
        self._ended: Ended = "open"
        self._leaning: AtLeastVerdict | None = None
        self._searched: tuple[float, ...] = ()
        """Chances of the rungs when the search ended: the audit may show that no curve fits."""
        self._to_audit = 0
        self._audit = Audit("not finished")
        self._shape_ends: int | None = None

    def next_level(self) -> int | None:
        """Return the level of the next trial, None when all is known."""
        return next(iter(self.next_levels(1)), None)

    def next_levels(self, k: int) -> list[int]:
        """Return levels of up to `k` trials to run at once; none when all is known.

        Each is chosen as if those before it ended as they probably will. Record them all before
        asking again. Raises UsageProblem unless `k` is 1 or more.
        """
        if k < 1:
            raise UsageProblem(f"a batch holds 1 trial or more, not {k}")
        self._advance()
        ahead, levels = copy.copy(self), list[int]()
        # A batch ends with its phase: what comes after depends on how these trials end.
        while ahead._phase == self._phase != "over":
            rung = ahead._wanted()
            levels.append(self._levels[rung])
            if len(levels) == k:
                break
            ahead._take(rung, self._grid.chance(ahead._known(), rung) >= 0.5)
            ahead._advance()
        return levels

    def record(self, level: int, passed: bool) -> None:
        """Take the outcome of one trial, also of one that was not proposed.

        Raises UsageProblem on a level that is not of this ladder, and on an outcome that is neither
        True nor False.
        """
        rung = self._sound_rung(level)
        if not isinstance(passed, bool):
            raise UsageProblem(f"a trial ends with True or False, not {passed!r}")
        self._take(rung, passed)

    def result(self) -> Ceiling:
        """Return what is known so far; final once `next_level()` returns None."""
        now = copy.copy(self)
        now._advance()
        return now._summary()

    def _summary(self) -> Ceiling:
        rungs = self._rungs()
        low, middle, high = (quantile(rungs, share) for share in (0.05, 0.5, 0.95))
        p_cliff = self._grid.cliff(self._known()) if self._fall_seen(middle) else None
        named = (0, *self._levels)
        return Ceiling(
            ceiling=named[middle],
            low=named[low],
            high=named[high],
            shape=self._shape(p_cliff),
            reliability=self._reliability,
            trials=self._trials,
            steps=sum(tally.level * tally.trials for tally in self._counts),
            counts=self._counts,
            rungs=rungs,
            audit=self._audit,
            p_cliff=p_cliff,
            ended=self._ended,
            at_least=self._asked,
            verdict=self._verdict(middle),
        )

    def _take(self, rung: int, passed: bool) -> None:
        level, passes, trials = self._counts[rung]
        counted = Tally(level, passes + passed, trials + 1)
        self._counts = (*self._counts[:rung], counted, *self._counts[rung + 1 :])
        self._trials += 1
        self._logs = self._grid.after(self._logs, rung, passed)
        self._weights = None

    def _known(self) -> list[float]:
        if self._weights is None:
            self._weights = self._grid.weigh(self._logs)
        return self._weights

    def _chances(self) -> tuple[float, ...]:
        """Return the chance of each number of rungs, given that the curves only fall."""
        return self._grid.rungs(self._known())

    def _rungs(self) -> tuple[float, ...]:
        """Return the chances of the rungs; a dip cuts off what lies above it."""
        if self._audit.dip is None:
            return self._chances()
        under = self._rung_of[self._audit.dip]
        rungs = self._searched
        return (*rungs[:under], sum(rungs[under:]), *[0.0] * (len(self._levels) - under))

    def _wanted(self) -> int:
        """Return the rung of the next trial; the phase is not over."""
        if self._phase == "audit":
            wanted = audit(self._counts[: self._to_audit], self._reliability).wanted
            assert wanted is not None, "an audit that wants no trial has ended"
            return wanted
        goal = self._goal
        if self._phase == "shape":
            worths = self._grid.worth(self._known(), lambda rungs, cliff: cliff)
        elif goal is not None:
            worths = self._grid.worth(self._known(), lambda rungs, cliff: rungs >= goal)
        else:
            worths = self._grid.worth(self._known(), lambda rungs, cliff: rungs)
        best = max(worths)
        ties = [rung for rung, worth in enumerate(worths) if worth == best]
        return random.Random(f"{self._seed}:{self._trials}").choice(ties)

    def _advance(self) -> None:
        """Go on to the next phase if this one has what it wants."""
        if self._phase == "search":
            self._end_search()
        if self._phase == "audit":
            look = audit(self._counts[: self._to_audit], self._reliability)
            if look.wanted is None:
                self._audit = look.audit
                self._phase = "over"
                if self._wants_shape():
                    self._phase, self._shape_ends = "shape", self._trials + SHAPE_TRIALS
        if self._shape_ends is not None and self._trials >= self._shape_ends:
            self._phase = "over"

    def _end_search(self) -> None:
        """Leave the search if it is certain or has had its most trials."""
        least = LEAST_TRIALS if self._goal is None else LEAST_TRIALS_TO_ANSWER
        if self._trials < least:
            return
        rungs = self._chances()
        if self._goal is None:
            width = quantile(rungs, 0.95) - quantile(rungs, 0.05)
            certain, most = width <= min(WIDTH, len(self._levels) // 3), MOST_TRIALS
            below = quantile(rungs, 0.5) - 1
        else:
            sure = sum(rungs[self._goal :])
            self._leaning = _answer(sure)
            certain, most = self._leaning != "inconclusive", MOST_TRIALS_TO_ANSWER
            below = self._goal if self._leaning == "pass" else 0
        if certain or self._trials >= most:
            self._phase, self._ended = "audit", "certain" if certain else "cap"
            self._searched, self._to_audit = rungs, max(0, below)

    def _wants_shape(self) -> bool:
        if self._goal is not None or self._audit.dip is not None:
            return False
        return self._fall_seen(quantile(self._chances(), 0.5))

    def _fall_seen(self, middle: int) -> bool:
        """Return whether curves fit, something passed and the top of the ladder does not hold."""
        passed = any(tally.passes for tally in self._counts)
        return self._audit.dip is None and passed and middle < len(self._levels)

    def _shape(self, p_cliff: float | None) -> Shape:
        if p_cliff is None or self._shape_ends is None or self._phase != "over":
            return "unclear"
        if p_cliff >= CLIFF_FROM:
            return "cliff"
        return "decay" if p_cliff <= DECAY_UP_TO else "unclear"

    def _verdict(self, middle: int) -> AtLeastVerdict | None:
        if self._goal is None or self._phase != "over":
            return None
        if self._audit.dip is not None:
            return "fail"
        # Misses that the audit turned up may leave a yes without its ground.
        doubted = self._leaning == "pass" and middle < self._goal
        return "inconclusive" if doubted else self._leaning

    def _sound_rung(self, level: int) -> int:
        if level not in self._rung_of:
            raise UsageProblem(
                f"{level!r} is not a level of this ladder, which has "
                f"{', '.join(map(str, self._levels))}: use one of these"
            )
        return self._rung_of[level]


def _answer(sure: float) -> AtLeastVerdict:
    if sure >= SURE:
        return "pass"
    return "fail" if sure <= 1 - SURE else "inconclusive"


def _sound_levels(levels: Sequence[int]) -> tuple[int, ...]:
    found = tuple(levels)
    whole = all(isinstance(level, int) and not isinstance(level, bool) for level in found)
    rising = whole and all(a < b for a, b in pairwise(found))
    if not (rising and 2 <= len(found) <= MOST_LEVELS and 1 <= found[0] <= found[-1]):
        raise UsageProblem(
            f"the levels of a ladder are 2 to {MOST_LEVELS} whole numbers from 1 up, each above "
            f"the one before, such as 1, 2, 4, 8, not {_shown(found)}"
        )
    if found[-1] > HIGHEST_LEVEL:
        raise UsageProblem(
            f"the highest level of a ladder is {HIGHEST_LEVEL:,} at most, not {found[-1]:.3g}: "
            "count in larger steps"
        )
    return found


def _shown(levels: tuple[object, ...]) -> str:
    shown = ", ".join(map(repr, levels[:MOST_LEVELS]))
    return f"{shown} …" if len(levels) > MOST_LEVELS else shown or "none"
