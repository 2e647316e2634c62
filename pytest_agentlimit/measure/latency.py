"""Percentiles, their bounds, and the verdict on a latency budget (METHOD 4).

Latencies may be +inf: a timeout never ended. All decisions are made in exact arithmetic, so a
value that lies on a limit is on the same side of it on every machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

BudgetVerdict = Literal["pass", "fail", "inconclusive"]


def percentile(values: Iterable[float], pct: float) -> float:
    """Return the nearest-rank percentile: `sorted[max(1, ceil(n·pct/100)) − 1]`, always a sample.

    `pct` is taken as its decimal text (99.9 is 999/1000). Raises ValueError without values, on
    NaN, and outside 0..100. Source: METHOD 4.1.
    """
    ordered = _ordered(values)
    share = _exact(pct, "a percentile") / 100
    if not 0 <= share <= 1:
        raise ValueError(f"a percentile lies between 0 and 100, not {pct}")
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1]


def median(values: Iterable[float]) -> float:
    """Return the middle value, or the mean of the two in the middle; raises ValueError as above."""
    return statistics.median(_ordered(values))


def quantile_upper(
    values: Iterable[float], q: float = 0.95, confidence: float = 0.95
) -> float | None:
    """Return the one-sided upper bound of quantile `q`, or None when there are too few values.

    It is the value of the smallest rank s with P(Bin(n, q) <= s−1) >= confidence; for P95 it
    exists from 59 values on. Source: METHOD 4.2.
    """
    ordered = _ordered(values)
    above = _limits(len(ordered), _open(q, "q"), _open(confidence, "confidence")).most_to_pass
    return None if above < 0 else ordered[len(ordered) - above - 1]


def budget_verdict(over: int, n: int, q: float = 0.95, confidence: float = 0.95) -> BudgetVerdict:
    """Return what `over` trials above their budget out of `n` prove about quantile `q`.

    `pass`: at most 1 − q of all trials are over, at this confidence; `fail`: more than that are.
    Between the two, and without trials, it is `inconclusive`. Source: METHOD 4.3.
    """
    _check_counts(over, n)
    limits = _limits(n, _open(q, "q"), _open(confidence, "confidence"))
    if over <= limits.most_to_pass:
        return "pass"
    return "fail" if over >= limits.least_to_fail else "inconclusive"


def trials_to_pass(over: int, n: int, q: float = 0.95, confidence: float = 0.95) -> int | None:
    """Return how many more trials, all within budget, would decide for a pass.

    0 when it is decided so already, None when a breach is proven: no count of good trials should
    be held out to someone who has failed.
    """
    verdict = budget_verdict(over, n, q, confidence)
    if verdict != "inconclusive":
        return 0 if verdict == "pass" else None
    known, far = n, max(2 * n, 1)
    while budget_verdict(over, far, q, confidence) != "pass":
        known, far = far, 2 * far
    while far - known > 1:
        middle = (known + far) // 2
        if budget_verdict(over, middle, q, confidence) == "pass":
            far = middle
        else:
            known = middle
    return far - n


def within_budget(over: int, n: int, q: float = 0.95) -> bool:
    """Return True when the nearest-rank quantile `q` itself is within budget: the point estimate.

    False without trials.
    """
    _check_counts(over, n)
    return n > 0 and over <= n - math.ceil(n * _open(q, "q"))


def waiting_time(intervals: Iterable[tuple[float, float]]) -> float:
    """Return how long at least one of the (start, end) intervals was open, in their unit.

    Parallel calls count once, gaps (tool time) not at all. Raises ValueError on an end before its
    start. Source: METHOD 4.
    """
    total = 0.0
    until = -math.inf
    for start, end in sorted(intervals):
        if not start <= end:
            raise ValueError(f"an interval ends before it starts: {start} to {end}")
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


class _Limits(NamedTuple):
    """Counts over budget that decide among n trials."""

    most_to_pass: int
    """-1 when even a clean run proves nothing."""
    least_to_fail: int
    """n + 1 when even a run with nothing but breaches proves nothing."""


@lru_cache(maxsize=1024)
def _limits(n: int, q: Fraction, confidence: Fraction) -> _Limits:
    """Return both limits from the exact distribution of Bin(n, 1 − q).

    PASS: P(Bin <= c) <= 1 − confidence. FAIL: P(Bin >= c) <= 1 − confidence, which is
    P(Bin <= c−1) >= confidence.
    """
    most = -1
    scale = q.denominator**n * confidence.denominator
    to_pass = scale - q.denominator**n * confidence.numerator
    for count, below in enumerate(_cumulative(n, q)):
        reached = below * confidence.denominator
        if reached <= to_pass:
            most = count
        if reached >= scale - to_pass:
            return _Limits(most, count + 1)
    raise AssertionError("a distribution adds up to one")  # pragma: no cover


def _cumulative(n: int, q: Fraction) -> Iterator[int]:
    """Yield P(Bin(n, 1 − q) <= 0), <= 1, … as whole numbers over q.denominator ** n."""
    hit, miss = q.denominator - q.numerator, q.numerator
    term = miss**n
    total = 0
    for count in range(n + 1):
        total += term
        yield total
        term = term * ((n - count) * hit) // ((count + 1) * miss)


def _ordered(values: Iterable[float]) -> Sequence[float]:
    listed = list(values)
    if not listed:
        raise ValueError("a percentile needs at least one value")
    if any(math.isnan(value) for value in listed):
        raise ValueError("a latency is not a number (NaN)")
    return sorted(listed)


def _check_counts(over: int, n: int) -> None:
    if not 0 <= over <= n:
        raise ValueError(f"trials over budget must lie between 0 and {n} trials, not {over}")


def _exact(value: float, what: str) -> Fraction:
    """Return the decimal number that was written, not the binary one next to it."""
    try:
        return Fraction(str(value))
    except ValueError:
        raise ValueError(f"{what} is a number, not {value}") from None


def _open(value: float, what: str) -> Fraction:
    exact = _exact(value, what)
    if not 0 < exact < 1:
        raise ValueError(f"{what} lies between 0 and 1, not {value}")
    return exact
