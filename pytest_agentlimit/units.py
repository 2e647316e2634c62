"""Numbers as people write them: durations with their unit, and shares in per cent."""

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


def percentage(text: str, option: str) -> float:
    """Return the share 0..1 that "80", "80%" or "79.5" mean to `option`: above 0, up to 100 %.

    Raises ValueError with what to write instead. 1 and below is refused, since who writes ".8"
    means 80 %.
    """
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise ValueError(f"{option} takes a percentage above 0 and up to 100, not {text!r}")
    if value <= 1:
        raise ValueError(
            f"{option}={text} would be {value:g} %: write it in per cent, such as {value * 100:g}"
        )
    return value / 100
