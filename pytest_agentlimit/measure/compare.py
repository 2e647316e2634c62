"""Two models on the same checks: how far apart, how surely, and which is faster (METHOD 1, 4.6).

Everywhere `passes_a`, `passes_b` and `weights` hold one entry per check; `trials` is one number for
all checks or one per check, and `trials_b` is given when b has had other counts than a.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from pytest_agentlimit.measure.score import WeightedScore

Alternative = Literal["two-sided", "less", "greater"]

POINTS = 100_000
"""Up to this many values the label swap's statistic is exact; beyond, it is put on such a grid."""
FLIP_POINTS = 20_000
"""The grid of the sign flip, beyond ENUMERATED checks."""
ENUMERATED = 18
LEAST_P = 1e-25
"""A smaller p-value is given as this one: tails are cut where they no longer matter to it."""
CUT = 1e-32
DETECT = 2.802
"""Normal quantiles of .975 and .8, added: 80 % power to see a gap at 5 %, two-sided."""


class Difference(NamedTuple):
    """Score of a minus score of b, −1..1, with its 95 % interval."""

    value: float
    low: float
    high: float


class SpeedRatio(NamedTuple):
    """How many times as long a takes as b; above 1, b is faster."""

    value: float
    """Geometric mean over checks of a / b."""
    low: float | None
    """95 % interval of the mean log ratio (t, n − 1 degrees of freedom), None for one check."""
    high: float | None
    p: float
    """Exact sign flip of the log ratios, two-sided."""
    sign_p: float
    """Exact sign test on who is faster, two-sided, ties left out."""
    a_faster: int
    b_faster: int
    n: int
    """Checks compared, ties among them."""


class _Check(NamedTuple):
    """The counts of one check."""

    x_a: int
    n_a: int
    x_b: int
    n_b: int
    weight: Fraction

    def variances(self, prior: float) -> tuple[float, float]:
        """Return p(1 − p) of a and of b: the variances of one trial."""
        a = (self.x_a + prior) / (self.n_a + 2 * prior)
        b = (self.x_b + prior) / (self.n_b + 2 * prior)
        return a * (1 - a), b * (1 - b)


def score_difference(a: WeightedScore, b: WeightedScore) -> Difference:
    """Return S_a − S_b with Newcombe's interval from the two scores' own. Source: METHOD 1."""
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Difference(value, max(-1.0, low), min(1.0, high))


def label_swap_p(
    passes_a: Sequence[float],
    passes_b: Sequence[float],
    trials: float | Sequence[float],
    weights: Sequence[float],
    *,
    trials_b: float | Sequence[float] | None = None,
    alternative: Alternative = "two-sided",
) -> float:
    """Return how often a gap this large would come up if the labels a and b meant nothing.

    The statistic is D = sum v (x_a/n_a − x_b/n_b); within a check the passes of a, given those of
    both, are hypergeometric, and checks are independent. "two-sided" is P(|D| >= |observed|),
    "less" P(D <= observed), which is small when a is worse, "greater" the other end.

    D is exact, and so are ties, while it has at most POINTS values; odder weights are rounded to
    1 / POINTS of the span of D, which leaves the test exact, of weights a hair off.
    Raises ValueError on counts or weights that make no sense. Source: METHOD 1.
    """
    if alternative not in ("two-sided", "less", "greater"):
        raise ValueError(f"alternative is two-sided, less or greater, not {alternative!r}")
    checks = _checks(passes_a, passes_b, trials, trials_b, weights)
    # Given its total, a check adds a constant and its weight (1/n_a + 1/n_b) per pass of a.
    open_checks = [c for c in checks if c.weight and 0 < c.x_a + c.x_b < c.n_a + c.n_b]
    swaps = [_hypergeometric(c.n_a, c.n_b, c.x_a + c.x_b) for c in open_checks]
    sizes = [c.weight * (Fraction(1, c.n_a) + Fraction(1, c.n_b)) for c in open_checks]
    steps = _steps(sizes, [len(swap.chances) - 1 for swap in swaps], POINTS)

    observed, centre = 0, Fraction(0)
    for c, swap, step in zip(open_checks, swaps, steps, strict=True):
        observed += step * (c.x_a - swap.least)
        centre += step * (Fraction((c.x_a + c.x_b) * c.n_a, c.n_a + c.n_b) - swap.least)
    sums = _Sums(zip(steps, (swap.chances for swap in swaps), strict=True))
    if alternative == "less":
        return sums.p(at_most=observed)
    if alternative == "greater":
        return sums.p(at_least=observed)
    reach = abs(observed - centre)
    return sums.p(at_most=math.floor(centre - reach), at_least=math.ceil(centre + reach))


def speed_ratio(a_ms: Sequence[float], b_ms: Sequence[float]) -> SpeedRatio:
    """Return how a and b compare in speed, paired: one latency per check and model, in one unit.

    The sign flip is exact up to ENUMERATED checks; beyond, log ratios are rounded to 1/FLIP_POINTS
    of their sum. Raises ValueError on no values, and on values that are not positive and finite:
    leave timeouts out. Source: METHOD 1 and 4.6.
    """
    if len(a_ms) != len(b_ms) or not a_ms:
        raise ValueError(
            "a speed ratio needs a latency of each model per check, "
            f"not {len(a_ms)} and {len(b_ms)}"
        )
    for ms in (*a_ms, *b_ms):
        if not 0 < ms < math.inf:
            raise ValueError(f"a latency to compare is positive and finite, not {ms}")
    logs = [math.log(a) - math.log(b) for a, b in zip(a_ms, b_ms, strict=True)]
    n, mean = len(logs), fmean(logs)
    low = high = None
    if n > 1:
        half = _t_quantile(n - 1) * stdev(logs) / math.sqrt(n)
        low, high = math.exp(mean - half), math.exp(mean + half)
    a_faster = sum(a < b for a, b in zip(a_ms, b_ms, strict=True))
    b_faster = sum(a > b for a, b in zip(a_ms, b_ms, strict=True))
    sign_p = _sign_p(a_faster, b_faster)
    return SpeedRatio(math.exp(mean), low, high, _flip_p(logs), sign_p, a_faster, b_faster, n)


def smallest_detectable(
    passes_a: Sequence[float],
    passes_b: Sequence[float],
    trials: float | Sequence[float],
    weights: Sequence[float],
    *,
    trials_b: float | Sequence[float] | None = None,
    prior: float = 0.0,
) -> float:
    """Return the smallest gap of scores that as many trials would show 4 times in 5.

    2.802·sqrt(sum v² (p_a q_a/n_a + p_b q_b/n_b)) with p = (x + prior)/(n + 2·prior): a prior of .5
    keeps checks that always passed from claiming that they cannot vary. Source: METHOD 1.
    """
    total = 0.0
    for c, share in _with_shares(_checks(passes_a, passes_b, trials, trials_b, weights)):
        of_a, of_b = c.variances(_sound(prior))
        total += share * share * (of_a / c.n_a + of_b / c.n_b)
    return DETECT * math.sqrt(total)


def rounds_to_detect(
    passes_a: Sequence[float],
    passes_b: Sequence[float],
    trials: float | Sequence[float],
    weights: Sequence[float],
    gap: float,
    *,
    trials_b: float | Sequence[float] | None = None,
    prior: float = 0.5,
) -> int:
    """Return how many trials each check needs, of both models, to show a gap of scores of `gap`.

    All trials are counted, the ones behind `passes` too; the rates are taken to stay as they are.
    Raises ValueError unless the gap is positive. Source: METHOD 1.
    """
    if not gap > 0:
        raise ValueError(f"a gap to detect is a positive number, not {gap}")
    one_round = 0.0
    for c, share in _with_shares(_checks(passes_a, passes_b, trials, trials_b, weights)):
        one_round += share * share * sum(c.variances(_sound(prior)))
    # An exact quotient must not be lifted to the next whole number by rounding.
    return max(1, math.ceil((DETECT / gap) ** 2 * one_round - 1e-9))


class _Swap(NamedTuple):
    """How many passes of a check a could have had: the fewest, and the chances from there up."""

    least: int
    chances: tuple[float, ...]


@lru_cache(maxsize=4096)
def _hypergeometric(n_a: int, n_b: int, total: int) -> _Swap:
    least, most = max(0, total - n_b), min(n_a, total)
    ways = math.comb(n_a + n_b, total)
    found = (math.comb(n_a, x) * math.comb(n_b, total - x) / ways for x in range(least, most + 1))
    return _Swap(least, tuple(found))


def _steps(sizes: Sequence[Fraction], counts: Sequence[int], points: int) -> list[int]:
    """Return whole numbers in the proportions of `sizes`, rounded if their sum needs it.

    `counts` says how often each size can be added; the sum of all stays at about `points` or less.
    """
    common = math.lcm(*(size.denominator for size in sizes))
    whole = [int(size * common) for size in sizes]
    shared = math.gcd(*whole) or 1
    span = sum(size * count for size, count in zip(whole, counts, strict=True))
    if span // shared <= points:
        return [size // shared for size in whole]
    return [round(Fraction(size * points, span)) for size in whole]


class _Sums:
    """The distribution of a sum of independent whole numbers."""

    def __init__(self, terms: Iterator[tuple[int, Sequence[float]]]) -> None:
        """Take each term as (step, chances): it is k·step with the k-th chance."""
        self._first = 0
        self._chances = [1.0]
        # The short ones first: the work of a step goes with the values there are by then.
        for step, chances in sorted(terms, key=lambda term: term[0] * len(term[1])):
            if step:
                self._add(step, chances)

    def _add(self, step: int, chances: Sequence[float]) -> None:
        before, size = self._chances, len(self._chances)
        after = [0.0] * (size + step * (len(chances) - 1))
        for at, chance in zip(range(0, len(after), step), chances, strict=False):
            after[at : at + size] = [
                sofar + chance * more
                for sofar, more in zip(after[at : at + size], before, strict=True)
            ]
        first, end = 0, len(after)
        while after[first] < CUT:
            first += 1
        while after[end - 1] < CUT:
            end -= 1
        self._first += first
        self._chances = after[first:end]

    def p(self, *, at_most: int | None = None, at_least: int | None = None) -> float:
        """Return the chance of a sum in either tail, LEAST_P to 1."""
        total = 0.0
        if at_most is not None:
            total += math.fsum(self._chances[: max(0, at_most + 1 - self._first)])
        if at_least is not None:
            total += math.fsum(self._chances[max(0, at_least - self._first) :])
        return min(1.0, max(LEAST_P, total))


def _flip_p(logs: Sequence[float]) -> float:
    """Return how often signs drawn at random give a sum at least as far from 0 as the one seen."""
    if len(logs) <= ENUMERATED:
        return _enumerated_flip_p(logs)
    span = math.fsum(abs(x) for x in logs)
    steps = [round(abs(x) / (span or 1.0) * FLIP_POINTS) for x in logs]
    seen = abs(sum(step if x > 0 else -step for step, x in zip(steps, logs, strict=True)))
    # The sum of signs times steps is 2·(the steps with a plus) − all, and its two tails are alike.
    sums = _Sums((step, (0.5, 0.5)) for step in steps)
    return min(1.0, 2 * sums.p(at_least=(sum(steps) + seen) // 2))


def _enumerated_flip_p(logs: Sequence[float]) -> float:
    sums = [logs[0]]  # its sign can stay: turning all signs only mirrors the sum
    for x in logs[1:]:
        sums = [s + x for s in sums] + [s - x for s in sums]
    # Sums that are equal on paper differ by rounding errors.
    bar = abs(math.fsum(logs)) - 1e-12 * math.fsum(abs(x) for x in logs)
    return sum(abs(s) >= bar for s in sums) / len(sums)


def _sign_p(wins: int, losses: int) -> float:
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << n))


@lru_cache(maxsize=256)
def _t_quantile(df: int) -> float:
    """Return the .975 quantile of Student's t, by halving the angle atan(t / sqrt(df))."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, df) < 0.95 else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def _t_within(angle: float, df: int) -> float:
    """Return P(|t| <= sqrt(df)·tan(angle)), a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(2 + odd, df + 1, 2):
        total += term
        term *= (k - 1) / k * cosine * cosine
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def _checks(
    passes_a: Sequence[float],
    passes_b: Sequence[float],
    trials: float | Sequence[float],
    trials_b: float | Sequence[float] | None,
    weights: Sequence[float],
) -> list[_Check]:
    """Return the counts check by check, once everything has been found sound."""
    size = len(weights)
    n_a = _per_check(trials, size)
    n_b = n_a if trials_b is None else _per_check(trials_b, size)
    if not size == len(passes_a) == len(passes_b) == len(n_a) == len(n_b):
        raise ValueError("passes, trials and weights need one entry per check each")
    if not size:
        raise ValueError("a comparison needs at least one check")
    checks = [
        _Check(_whole(a), _whole(n), _whole(b), _whole(m), w)
        for a, n, b, m, w in zip(passes_a, n_a, passes_b, n_b, _exact(weights), strict=True)
    ]
    for i, c in enumerate(checks):
        if not (0 <= c.x_a <= c.n_a > 0 and 0 <= c.x_b <= c.n_b > 0):
            raise ValueError(
                f"check {i}: passes lie between 0 and the trials, and there is a trial at least, "
                f"not {c.x_a} of {c.n_a} and {c.x_b} of {c.n_b}"
            )
    return checks


def _with_shares(checks: Sequence[_Check]) -> list[tuple[_Check, float]]:
    total = sum(c.weight for c in checks)
    return [(c, float(c.weight / total)) for c in checks]


def _per_check(trials: float | Sequence[float], size: int) -> Sequence[float]:
    return [trials] * size if isinstance(trials, (int, float)) else trials


def _whole(count: float) -> int:
    if not (math.isfinite(count) and count == int(count)):
        raise ValueError(f"passes and trials are whole numbers, not {count}")
    return int(count)


def _exact(weights: Sequence[float]) -> list[Fraction]:
    """Return each weight as a share of the largest, free of rounding errors.

    Sums of weights then tie as they do on paper: 0.1 + 0.2 with 0.3.
    """
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"a weight must be a number of 0 or more, not {weight}")
    largest = max(weights)
    if largest == 0:
        raise ValueError("all weights are 0: at least one check must count")
    return [_simplest(weight / largest) for weight in weights]


@lru_cache(maxsize=4096)
def _simplest(share: float) -> Fraction:
    return Fraction(share).limit_denominator(1_000_000)


def _sound(prior: float) -> float:
    if not (math.isfinite(prior) and prior >= 0):
        raise ValueError(f"a prior is a number of 0 or more, not {prior}")
    return prior
