"""The markers of a check, read once at collection; every mistake is a CollectError."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_agentlimit.units import duration_ms

DESCRIPTIONS = (
    "weight(n): how much this check counts in the score (default 1)",
    "latency_budget(budget, quantile=0.95): how long a trial may wait on the model, such as '8s'",
    "capability(name): what the check is about, such as 'tool-calling'",
    "trials(n): trials of this check, instead of --agent-trials",
    "blocker: a failure of this check fails the gate whatever the score",
)


@dataclass(frozen=True)
class CheckMarkers:
    """What the markers of one check say; the closest marker wins per key."""

    weight: float = 1.0
    budget_ms: float | None = None
    budget_quantile: float = 0.95
    capability: str | None = None
    trials: int | None = None
    blocker: bool = False


# One function a marker: its signature is the marker's, so that binding finds misspelt keywords.
def _weight(n: float) -> dict[str, Any]:
    if isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) or n <= 0:
        raise ValueError(f"weight takes a number above 0, not {n!r}")
    return {"weight": float(n)}


def _latency_budget(budget: str, quantile: float = 0.95) -> dict[str, Any]:
    if not isinstance(budget, str):
        raise ValueError(f'{budget!r} has no unit: write latency_budget("{budget}s")')
    if isinstance(quantile, bool) or not isinstance(quantile, float) or not 0 < quantile < 1:
        raise ValueError(f"quantile is a number between 0 and 1, not {quantile!r}")
    return {"budget_ms": duration_ms(budget), "budget_quantile": quantile}


def _capability(name: str) -> dict[str, Any]:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"capability takes a name, not {name!r}")
    return {"capability": name}


def _trials(n: int) -> dict[str, Any]:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"trials takes a whole number from 1, not {n!r}")
    return {"trials": n}


def _blocker() -> dict[str, Any]:
    return {"blocker": True}


_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "weight": _weight,
    "latency_budget": _latency_budget,
    "capability": _capability,
    "trials": _trials,
    "blocker": _blocker,
}


def read_markers(marks: Iterator[pytest.Mark] | list[pytest.Mark], where: str) -> CheckMarkers:
    """Return what `marks` (closest first) say; raises CollectError naming `where`."""
    values: dict[str, Any] = {}
    for mark in marks:
        reader = _READERS.get(mark.name)
        if reader is not None:
            for key, value in _read(reader, mark, where).items():
                values.setdefault(key, value)
    return CheckMarkers(**values)


def _read(reader: Callable[..., dict[str, Any]], mark: pytest.Mark, where: str) -> dict[str, Any]:
    parameters = list(inspect.signature(reader).parameters)
    for keyword in mark.kwargs:
        if keyword not in parameters:
            import difflib  # only for mistakes: every session would pay for it

            near = difflib.get_close_matches(keyword, parameters, 1)
            known = ", ".join(parameters) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"it takes: {known}"
            raise _error(where, mark, f"unknown keyword {keyword!r}; {hint}")
    try:
        inspect.signature(reader).bind(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise _error(where, mark, f"{error}; it is {_usage(mark.name)}") from None
    try:
        return reader(*mark.args, **mark.kwargs)
    except ValueError as error:
        raise _error(where, mark, str(error)) from None


def _usage(name: str) -> str:
    return next(text for text in DESCRIPTIONS if text.startswith(name)).split(":")[0]


def _error(where: str, mark: pytest.Mark, problem: str) -> pytest.Collector.CollectError:
    return pytest.Collector.CollectError(f"{where}: @pytest.mark.{mark.name}: {problem}")
