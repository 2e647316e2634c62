"""Durations as people write them: a number with its unit, so that nobody has to guess."""

from __future__ import annotations

import math
import re

_MS_PER_UNIT = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, "min": 60_000.0, "h": 3_600_000.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE)


def duration_ms(text: str) -> float:
    """Return the milliseconds of "750ms", "8s", "1.5 s", "2m" or "1h"; more than zero and finite.

    Raises ValueError, with what to write instead, for a missing or unknown unit, zero, or text
    that is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration: write a number and a unit, such as "8s"')
    number, unit = match.group(1), match.group(2).lower()
    if not unit:
        raise ValueError(f'"{text}" has no unit: write "{number}s" or "{number}ms"')
    if unit not in _MS_PER_UNIT:
        raise ValueError(f'"{text}" has an unknown unit: use one of {", ".join(_MS_PER_UNIT)}')
    value = float(number) * _MS_PER_UNIT[unit]
    if value <= 0 or not math.isfinite(value):
        raise ValueError(f'"{text}" is not a usable duration: write more than zero, such as "8s"')
    return value
