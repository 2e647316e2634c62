"""Differences of scores and p-values in words, the same in every sentence and report."""

from __future__ import annotations

import math

from pytest_agentlimit.text import one_line

NAMED = 3
"""How many checks a sentence names."""


def points(share: float) -> str:
    """Return a size of 0..1 as "5.3 points" of a score in percent; never 0.0 for more than 0."""
    return f"{_shown(abs(share))} points"


def signed(share: float) -> str:
    """Return "+5.3" or "−5.3", and "0.0" for no difference."""
    if share == 0:
        return "0.0"
    return ("+" if share > 0 else "−") + _shown(abs(share))


def gap(difference: float, low: float, high: float) -> str:
    """Return "+5.3 points (−29.8 … +39.4)"."""
    return f"{signed(difference)} points ({signed(low)} … {signed(high)})"


def p_value(p: float) -> str:
    """Return "p = .029" with two significant digits; only a true 1 is shown as 1.0."""
    return f"p {p_number(p, '= ')}"


def p_number(p: float, equals: str = "") -> str:
    """Return ".029", "1.0" or "< .0001"."""
    if p < 1e-4:
        return "< .0001"
    if p >= 0.995:
        return equals + ("1.0" if p >= 1 - 1e-9 else ".99")
    digits = 1 - math.floor(math.log10(p))
    return equals + f"{p:.{digits}f}".removeprefix("0")


def named(checks: list[str]) -> str:
    """Return the first few ids, and how many more there are."""
    shown = ", ".join(one_line(check) for check in checks[:NAMED])
    return shown if len(checks) <= NAMED else f"{shown} and {len(checks) - NAMED} more"


def counted(number: int, noun: str) -> str:
    """Return "1 check" or "2 checks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(size: float) -> str:
    return f"{max(100 * size, 0.1) if size > 0 else 0.0:.1f}"
