"""A model against what an earlier run of it, or of its predecessor, counted: the baseline rule.

The gate fails only where the candidate is worse beyond noise, and refuses what is not alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.comparisons import ALPHA, Counts, counts_of, unlike
from pytest_agentlimit.runs.lock import Lock, LockedModel
from pytest_agentlimit.runs.points import counted, gap, p_value, points
from pytest_agentlimit.runs.rules import ModelView, RuleResult
from pytest_agentlimit.runs.schema import RulePart, Verdict
from pytest_agentlimit.runs.sides import Side, side_of_locked, side_of_trials
from pytest_agentlimit.runs.trials import ModelTrials
from pytest_agentlimit.text import one_line

BLIND_ABOVE = 0.25
"""A run that could only have seen a larger loss than this (0..1) proves nothing by not failing."""
CANDIDATE = "this run"
BASELINE = "the baseline"
NOT_KNOWN = "not known"
_KEYS = {
    "dialect": "dialect",
    "model": "model",
    "digest": "digest",
    "quantisation": "quantisation",
    "engine": "engine",
    "engine_version": "engine version",
    "context": "context",
    "template_hash": "template",
    "tools": "tool support",
    "tool_calling": "tool calling",
    "harness": "harness",
    "sampling": "sampling",
}
"""Keys of a fingerprint in the order they are told, with the words for them."""


def pick(lock: Lock, name: str) -> LockedModel:
    """Return what to hold the model `name` against: the only locked model, or its namesake.

    Raises UsageProblem, with the names there are, when neither exists.
    """
    if len(lock.models) == 1:
        return lock.models[0]
    for model in lock.models:
        if model.name == name:
            return model
    names = ", ".join(one_line(model.name, 60) for model in lock.models[:10])
    raise UsageProblem(
        f"the baseline holds no model {one_line(name, 60)}; it has {names}. "
        "Choose one with --agent-baseline=FILE#MODEL"
    )


def against(trials: ModelTrials, shape: str, lock: Lock) -> tuple[Side, Side]:
    """Return a model and what it is held against, as the two sides of a comparison.

    Raises UsageProblem as `pick` does.
    """
    locked = side_of_locked(pick(lock, trials.name), lock.shape)
    found = side_of_trials(trials, shape)
    return Side(CANDIDATE, found.checks, found.fingerprint, shape), Side(
        BASELINE, locked.checks, locked.fingerprint, locked.shape, "lock"
    )


def baseline_rule(view: ModelView, shape: str) -> RuleResult | None:
    """Hold a model against the baseline: worse beyond noise fails, and so do unlike runs.

    One-sided exact label swap at ALPHA. A run too small to see a loss of BLIND_ABOVE is open, and
    leans to a pass. Source: METHOD 1.
    """
    lock = view.settings.baseline
    if lock is None or view.part.completion.scored == 0:
        return None
    try:
        one, other = against(view.trials, shape, lock)
    except UsageProblem as error:
        return _result("fail", None, f"{view.label}{error}")
    differences = unlike(one, other)
    if differences:
        message = (
            f"{view.label}cannot be compared with the baseline: {'; '.join(differences)}. "
            "Run the same checks, or lock a new run: agentlimit lock RUN"
        )
        return _result("fail", None, message)
    counts = counts_of(one, other)
    if not counts.a:
        message = f"{view.label}cannot be compared with the baseline: no check has a weight above 0"
        return _result("fail", None, message)
    return _judged(counts, view.label, _named(lock, pick(lock, view.trials.name)))


def changes(locked: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, "quantisation Q4_K_M → Q8_0" and the like.

    Empty when nothing that is known does.
    """
    keys = [*_KEYS, *sorted({*locked, *now} - set(_KEYS))]
    return [line for key in keys for line in _changed(key, locked.get(key), now.get(key))]


def _judged(counts: Counts, label: str, locked: str) -> RuleResult:
    """Return the verdict on alike counts."""
    difference, p, smallest = counts.differ(), counts.p("less"), counts.detectable()
    seen = f"{gap(*difference)}, {p_value(p)} (one-sided), {counts.size}"
    if p <= ALPHA:
        said = f"{label}worse than {locked} by {points(difference.value)}: {seen}"
        return _result("fail", difference.value, said)
    if smallest <= BLIND_ABOVE:
        shown = f"a loss of {points(smallest)} would have shown 4 times in 5"
        said = f"{label}not worse than {locked} beyond noise: {seen}; {shown}"
        return _result("pass", difference.value, said)
    blind = f"this run could only have seen a loss of {points(smallest)}"
    if smallest > 1:
        blind = "this run could not even have seen a loss of 100 points"
    needed = counted(counts.trials_to_detect(BLIND_ABOVE), "trial")
    said = (
        f"{label}cannot tell whether it is worse than {locked}: {seen}; {blind}, and "
        f"{points(BLIND_ABOVE)} need about {needed} of each check on both sides"
    )
    return _result("inconclusive", difference.value, said)


def _named(lock: Lock, model: LockedModel) -> str:
    return f"the baseline ({one_line(model.name, 60)} of run {one_line(lock.run_id, 60)})"


def _result(verdict: Verdict, observed: float | None, message: str) -> RuleResult:
    part = RulePart(rule="baseline", verdict=verdict, observed=observed, limit=0.0, message=message)
    return RuleResult(part, verdict != "fail")


def _changed(key: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) or isinstance(after, dict):
        old, new = (value if isinstance(value, dict) else {} for value in (before, after))
        for part in sorted({*old, *new}):
            for line in _changed(part, old.get(part), new.get(part)):
                yield f"{_word(key)} {line}"
    elif key == "template_hash" and before is not None and after is not None:
        yield "template changed"
    else:
        yield f"{_word(key)} {_value(key, before)} → {_value(key, after)}"


def _word(key: str) -> str:
    return _KEYS.get(key) or one_line(key, 40)


def _value(key: str, value: Any) -> str:
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(str(value), 12 if key in ("digest", "template_hash") else 60)
