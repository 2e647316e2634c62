"""The weighted score with its interval, and the two numbers about k tries (METHOD 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """The two ends of an interval of a share, 0..1."""

    low: float
    high: float


class WeightedScore(NamedTuple):
    """A weighted pass rate, 0..1, with its interval and the trials it is worth."""

    value: float
    low: float
    high: float
    effective_trials: float


def weighted_score(
    passes: Sequence[float],
    trials: Sequence[float],
    weights: Sequence[float],
    level: float = 0.95,
) -> WeightedScore:
    """Return S = sum(v p), with a Wilson interval at a heterogeneity-adjusted effective n.

    One entry per check in each argument; only the ratio of the weights matters. The interval is
    never narrower than what the least certain check allows, nor better than a perfect run of the
    same size, so it is never zero wide. Raises ValueError on counts or weights that make no sense.
    Source: METHOD 1.
    """
    shares = _shares(passes, trials, weights)
    z2 = _z(level) ** 2
    rates = [x / n for x, n in zip(passes, trials, strict=True)]
    value = _value(rates, weights, shares)
    spread = [v * v / n for v, n in zip(shares, trials, strict=True)]
    kish = 1.0 / math.fsum(spread)
    effective = kish / _heterogeneity(value, rates, trials, spread)

    low, high = wilson(value * effective, effective, level)
    ends = [wilson(x, n, level) for x, n in zip(passes, trials, strict=True)]
    doubt = list(zip(shares, rates, ends, strict=True))
    low = min(low, value - max(v * (p - end.low) for v, p, end in doubt), kish / (kish + z2))
    high = max(high, value + max(v * (end.high - p) for v, p, end in doubt), z2 / (kish + z2))
    return WeightedScore(value, max(0.0, low), min(1.0, high), effective)


def wilson(x: float, n: float, level: float = 0.95) -> Interval:
    """Return the Wilson interval of `x` successes in `n` trials; both may be fractions.

    Raises ValueError unless 0 <= x <= n and n > 0.
    """
    if not (math.isfinite(n) and n > 0 and 0 <= x <= n):
        raise ValueError(f"a Wilson interval needs 0 <= x <= n and n > 0, not x={x}, n={n}")
    z = _z(level)
    rate = x / n
    centre = (x + z * z / 2) / (n + z * z)
    half = z * math.sqrt(n * rate * (1 - rate) + z * z / 4) / (n + z * z)
    # At the two ends the formula is exact on paper and a rounding error off in floats.
    low = 0.0 if x == 0 else max(0.0, centre - half)
    high = 1.0 if x == n else min(1.0, centre + half)
    return Interval(low, high)


def pass_hat_k(c: int, n: int, k: int) -> float:
    """Return the unbiased chance that k fresh trials all pass, given c passes in n (tau-bench).

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    _check_k(c, n, k)
    return math.comb(c, k) / math.comb(n, k)


def pass_at_k(c: int, n: int, k: int) -> float:
    """Return the unbiased chance that at least one of k fresh trials passes, given c passes in n.

    Never headline this one for agents: a user meets one trial, not the best of k.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    _check_k(c, n, k)
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


@lru_cache(maxsize=32)
def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _shares(
    passes: Sequence[float], trials: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """Return the weights scaled to sum 1, once everything has been found sound."""
    if not len(passes) == len(trials) == len(weights):
        raise ValueError(
            "passes, trials and weights need one entry per check each, "
            f"not {len(passes)}, {len(trials)} and {len(weights)}"
        )
    if not trials:
        raise ValueError("a score needs at least one check")
    for i, (x, n, w) in enumerate(zip(passes, trials, weights, strict=True)):
        if not (math.isfinite(n) and n > 0):
            raise ValueError(f"check {i}: trials must be a positive number, not {n}")
        if not 0 <= x <= n:
            raise ValueError(f"check {i}: passes must lie between 0 and {n} trials, not {x}")
        if not (math.isfinite(w) and w >= 0):
            raise ValueError(f"check {i}: a weight must be a number of 0 or more, not {w}")
    largest = max(weights)
    if largest == 0:
        raise ValueError("all weights are 0: at least one check must count")
    total = math.fsum(w / largest for w in weights)
    return [w / largest / total for w in weights]


def _value(rates: list[float], weights: Sequence[float], shares: list[float]) -> float:
    """Return the weighted mean, exactly 0 or 1 when every check that counts agrees on it."""
    counted = [p for p, v in zip(rates, shares, strict=True) if v > 0]
    if min(counted) == max(counted):
        return counted[0]
    largest = max(weights)
    scaled = [w / largest for w in weights]
    top = math.fsum(w * p for w, p in zip(scaled, rates, strict=True))
    return min(1.0, top / math.fsum(scaled))


def _heterogeneity(
    value: float, rates: list[float], trials: Sequence[float], spread: list[float]
) -> float:
    """Return h of METHOD 1: how much less the score varies because checks differ, at most 1."""
    q = value * (1 - value)
    if q <= 0:
        return 1.0
    seen = math.fsum(
        a * (p * (1 - p) + q / n) for a, p, n in zip(spread, rates, trials, strict=True)
    )
    return min(1.0, seen / (q * math.fsum(spread)))


def _check_k(c: int, n: int, k: int) -> None:
    if not 0 <= c <= n:
        raise ValueError(f"passes must lie between 0 and {n} trials, not {c}")
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and {n} trials, not {k}")
