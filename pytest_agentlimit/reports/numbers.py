"""Numbers as every report shows them; each is formatted in one place.

What was not measured is said in words: a report never shows 0 for "we do not know".
"""

from __future__ import annotations

import math

NOT_MEASURED = "not measured"
NOTHING = "–"
"""Stands in a table cell that has no value, next to one that says why."""


def percent(share: float) -> str:
    """Return a share of 0..1 as "89.5 %"; only a true 1 is shown as 100, only a true 0 as 0."""
    return f"{_points(share, 1)} %"


def chance(share: float) -> str:
    """Return a probability as "97 %": no more digits than one that rests on few trials deserves."""
    return f"{_points(share, 0)} %"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Return an interval of shares as "56.7–98.2", in percent with `digits` decimals."""
    return f"{_points(low, digits)}–{_points(high, digits)}"


def rate(passes: int, trials: int, low: float | None, high: float | None) -> str:
    """Return "5/6 44–97": passes, trials and the 95 % interval of the pass rate in percent."""
    if not trials or low is None or high is None:
        return NOT_MEASURED
    return f"{passes}/{trials} {_points(low, 0)}–{_points(high, 0)}"


def milliseconds(value: float | None) -> str:
    """Return a latency to the millisecond: "36203 ms", or `timeout` when it never ended."""
    if value is None:
        return NOT_MEASURED
    if math.isinf(value):
        return "timeout"
    return f"{value:.1f} ms" if value < 10 else f"{_half_up(value)} ms"


def duration(value: float | None) -> str:
    """Return a latency at a glance: "812 ms" below ten seconds, "36.2 s" above; a dash for None."""
    if value is None:
        return NOTHING
    if math.isinf(value) or value < 9_999.5:
        return milliseconds(value)
    return f"{value / 1000:.1f} s"


def budget(value: float | None) -> str:
    """Return a latency budget as it was written, "8 s" or "750 ms"; a dash without one."""
    if value is None:
        return NOTHING
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def seconds(value: float) -> str:
    """Return how long a run took: "48.2 s" or "3 min 05 s"."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(_half_up(value), 60)
    return f"{minutes} min {rest:02d} s"


def count(number: int, noun: str) -> str:
    """Return "1 trial" or "2 trials"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _points(share: float, digits: int) -> str:
    """Return a share in percent, kept off 0 and 100 unless it is exactly there."""
    step = 10.0**-digits
    shown = 100 * share
    if 0 < share < 1:
        shown = min(max(shown, step), 100 - step)
    return f"{shown:.{digits}f}"


def _half_up(value: float) -> int:
    # Python rounds 6046.5 to the even 6046, which is not what a reader checks by hand.
    return math.floor(value + 0.5)
