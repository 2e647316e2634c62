"""Reports of checks made safe before anyone prints, stores or pickles them.

A failing assert shows what the model wrote, and pytest prints the lines of a text diff as they
are: a reply could then drive the terminal, or give commands to the CI that reads the log. A lone
surrogate would even kill an xdist worker.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from .github import defuse

# What pytest itself writes into reports: colours. Concealed text (8) is not among them.
_CODE = r"(?!0*8[;m])\d{1,2}"
_COLOUR = re.compile(rf"(\x1b\[(?:{_CODE}(?:;{_CODE})*)?m)")
_DEPTH = 12


def neutralise(report: pytest.TestReport) -> None:
    """Escape control characters in everything of `report` that is printed, colours excepted."""
    report.sections = [(name, _safe(text)) for name, text in report.sections]
    if report.longrepr is not None:
        report.longrepr = _clean(report.longrepr, _DEPTH)


def _clean(value: Any, depth: int) -> Any:
    """Return `value` with every text in it safe; objects of pytest's own are changed in place.

    A failure is a small tree of plain objects, lists and tuples, and has no public visitor.
    """
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, list | tuple):
        return type(value)(_clean(part, depth) for part in value)
    if depth and hasattr(value, "__dict__"):
        for name, part in vars(value).items():
            object.__setattr__(value, name, _clean(part, depth - 1))  # some are frozen
    return value


def _safe(text: str) -> str:
    from pytest_agentlimit.text import escape_controls

    parts = _COLOUR.split(text)
    parts[::2] = [defuse(escape_controls(part)) for part in parts[::2]]
    return "".join(parts)
