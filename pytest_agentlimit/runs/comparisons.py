"""Two sides on the checks both were scored on: the gap, the speed, and what can be said of them.

Source: METHOD 1 (two models) and 4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pytest_agentlimit.measure.ceiling_compare import probability_higher, probability_tied
from pytest_agentlimit.measure.compare import (
    Difference,
    SpeedRatio,
    label_swap_p,
    rounds_to_detect,
    score_difference,
    smallest_detectable,
    speed_ratio,
)
from pytest_agentlimit.measure.score import WeightedScore, weighted_score
from pytest_agentlimit.runs.points import counted, gap, named, p_value
from pytest_agentlimit.runs.schema import ComparisonPart, LadderPairPart
from pytest_agentlimit.runs.sides import Budget, Side, SideCheck
from pytest_agentlimit.text import one_line

ALPHA = 0.05
"""A claim needs a p-value of at most this."""
NOT_WORSE = 0.10
"""A possible loss below this many points (0..1) is worth the words "not worse"."""
WANTED_GAP = 0.10
"""The gap that a comparison should be able to see, when it says how many rounds are missing."""
PRIOR = 0.5
"""Half a pass and half a failure: checks that always passed can still vary."""


class Counts(NamedTuple):
    """The checks both sides were scored on and that count, one entry a check in each list."""

    a: list[SideCheck]
    b: list[SideCheck]

    @property
    def weights(self) -> list[float]:
        """Those of side a; sides that are alike have the same."""
        return [check.weight for check in self.a]

    def differ(self) -> Difference:
        """Return the gap between the two scores, with its 95 % interval."""
        return score_difference(self._score(self.a), self._score(self.b))

    def p(self, alternative: Any = "two-sided") -> float:
        """Return the p-value of the exact label swap."""
        return label_swap_p(*self._whole(), trials_b=self._trials_b, alternative=alternative)

    def detectable(self) -> float:
        """Return the smallest gap that trials of this number show 4 times in 5."""
        return smallest_detectable(*self._whole(), trials_b=self._trials_b, prior=PRIOR)

    def trials_to_detect(self, wanted: float) -> int:
        """Return how many trials a check, of both sides, show a gap of `wanted` 4 times in 5."""
        return rounds_to_detect(*self._whole(), wanted, trials_b=self._trials_b, prior=PRIOR)

    @property
    def size(self) -> str:
        """Say "n = 10 checks × 8 trials each", or both totals where counts differ."""
        checks = counted(len(self.a), "check")
        each = {check.trials for check in (*self.a, *self.b)}
        if len(each) == 1:
            return f"n = {checks} × {counted(int(each.pop()), 'trial')} each"
        a, b = (int(sum(check.trials for check in side)) for side in self)
        return f"n = {a} and {counted(b, 'trial')} of {checks}"

    @property
    def fewest(self) -> int:
        """The trials of the check that has least."""
        return int(min(check.trials for check in (*self.a, *self.b)))

    @property
    def _trials_b(self) -> list[float]:
        return [check.trials for check in self.b]

    def _whole(self) -> tuple[list[float], list[float], list[float], list[float]]:
        return (
            [check.whole_passes for check in self.a],
            [check.whole_passes for check in self.b],
            [check.trials for check in self.a],
            self.weights,
        )

    def _score(self, checks: list[SideCheck]) -> WeightedScore:
        passes = [check.passes for check in checks]
        return weighted_score(passes, [check.trials for check in checks], self.weights)


class Speed(NamedTuple):
    """How two sides compare in speed; latencies of a over those of b."""

    ratio: SpeedRatio | None
    """None when no check was measured on both."""
    timeouts: int
    """Checks left out because a trial of either side timed out."""


def compare(a: Side, b: Side) -> ComparisonPart:
    """Return the comparison of a with b; a positive difference favours a.

    On the checks both were scored on. They must be alike: ask `unlike` first.
    """
    counts = counts_of(a, b)
    speed = speed_of(a, b).ratio
    fields: dict[str, Any] = dict.fromkeys(
        ("difference", "low", "high", "p_value", "smallest_detectable")
    )
    if counts.a:
        difference = counts.differ()
        fields = {
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p_value": counts.p(),
            "smallest_detectable": counts.detectable(),
        }
    return ComparisonPart(
        a=a.name,
        b=b.name,
        **fields,
        speed_ratio=speed.value if speed else None,
        speed_low=speed.low if speed else None,
        speed_high=speed.high if speed else None,
        speed_p=speed.p if speed else None,
        ladders=tuple(_ladder_pairs(a, b)),
        verdict=_verdict(a.name, b.name, counts, fields),
    )


def compare_all(sides: list[Side]) -> tuple[ComparisonPart, ...]:
    """Return all pairs of the models of a run, in their order."""
    return tuple(compare(a, b) for i, a in enumerate(sides) for b in sides[i + 1 :])


def shared_checks(a: Side, b: Side) -> list[str]:
    """Return the ids of the checks both sides were scored on, in the order of a."""
    return [check for check in a.checks if check in b.checks]


def counts_of(a: Side, b: Side) -> Counts:
    """Return the shared checks that have a weight."""
    shared = [check for check in shared_checks(a, b) if a.checks[check].weight > 0]
    return Counts([a.checks[check] for check in shared], [b.checks[check] for check in shared])


def speed_of(a: Side, b: Side) -> Speed:
    """Return the paired speed of two sides, on checks measured on both and without a timeout."""
    pairs = [(a.checks[check], b.checks[check]) for check in shared_checks(a, b)]
    timeouts = sum(one.timed_out or other.timed_out for one, other in pairs)
    logs = [
        (one.log_ms, other.log_ms)
        for one, other in pairs
        if not (one.timed_out or other.timed_out)
        and one.log_ms is not None
        and other.log_ms is not None
    ]
    if not logs:
        return Speed(None, timeouts)
    a_ms, b_ms = zip(*((math.exp(one), math.exp(other)) for one, other in logs), strict=True)
    return Speed(speed_ratio(a_ms, b_ms), timeouts)


def _ladder_pairs(a: Side, b: Side) -> Iterator[LadderPairPart]:
    for (check, trial), one in a.ladders.items():
        other = b.ladders.get((check, trial))
        if other is None or (one.levels, one.reliability) != (other.levels, other.reliability):
            continue
        yield LadderPairPart(
            id=check,
            trial=trial,
            p_higher=probability_higher(one, other),
            p_tied=probability_tied(one, other),
        )


def unlike(a: Side, b: Side) -> list[str]:
    """Return what keeps two sides from being compared, one bounded line each; empty: nothing."""
    lines = []
    if a.shape and b.shape and a.shape != b.shape:
        lines.append(f"requests are {a.shape} in {a.name} and {b.shape} in {b.name}")
    for one, other in ((a, b), (b, a)):
        alone = [check for check in one.checks if check not in other.checks]
        if alone:
            lines.append(f"scored in {one.name} only: {named(alone)}")
    for what, told in _TRAITS:
        lines += _differing(a, b, what, told)
    texts = [
        check
        for check in shared_checks(a, b)
        if None not in (old := {a.checks[check].version, b.checks[check].version}) and len(old) > 1
    ]
    if texts:
        lines.append(f"the check's text or generator changed: {named(texts)}")
    return lines


def _differing(
    a: Side, b: Side, what: str, told: Callable[[SideCheck], str | None]
) -> Iterator[str]:
    """Yield one line when checks differ in a trait that both sources tell."""
    found = []
    for check in shared_checks(a, b):
        one, other = told(a.checks[check]), told(b.checks[check])
        if one != other and one is not None and other is not None:
            found.append((check, one, other))
    if found:
        check, one, other = found[0]
        example = f"{one_line(check)} has {one} in {a.name} and {other} in {b.name}"
        more = f" (and {counted(len(found) - 1, 'more check')})" if len(found) > 1 else ""
        yield f"{what} differ: {example}{more}"


def _budget_text(check: SideCheck) -> str | None:
    budget: Budget | None = check.budget
    if budget is None:
        return None
    return "none" if budget.ms is None else f"P{100 * budget.quantile:g} {budget.ms:g} ms"


_TRAITS: tuple[tuple[str, Callable[[SideCheck], str | None]], ...] = (
    ("weights", lambda check: f"{check.weight:g}"),
    ("budgets", _budget_text),
)


def _verdict(a: str, b: str, counts: Counts, found: dict[str, Any]) -> str:
    """Return one sentence that starts with better, worse, not worse or cannot tell."""
    a, b = one_line(a, 80), one_line(b, 80)
    if not counts.a:
        return f"cannot tell: {a} and {b} share no scored check that has a weight"
    value, low, high, p = (found[key] for key in ("difference", "low", "high", "p_value"))
    numbers = f"{gap(value, low, high)}, {p_value(p)}"
    if p <= ALPHA and (low > 0 or high < 0):
        word = "better" if value > 0 else "worse"
        return f"{word}: {a} scores {'above' if value > 0 else 'below'} {b}, {numbers}"
    if low > -NOT_WORSE:
        bound = max(1, math.ceil(-100 * low - 1e-9))
        return (
            f"not worse by more than {counted(bound, 'point')}: {a} than {b}, {numbers}; "
            "neither is proven better"
        )
    return f"cannot tell: {a} against {b}, {numbers}; {_missing(counts)}"


def _missing(counts: Counts) -> str:
    wanted = f"a gap of {100 * WANTED_GAP:g} points"
    more = counts.trials_to_detect(WANTED_GAP) - counts.fewest
    if more <= 0:
        return f"{wanted} would have shown 4 times in 5"
    return f"needs about {counted(more, 'more round')} to see {wanted}"
