"""Null models against checks: vacuous checks, and what the best null scores (METHOD 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from pytest_agentlimit.runs.journal import HOME
from pytest_agentlimit.runs.records import AuditedCheck, RunData
from pytest_agentlimit.runs.trials import ModelTrials, model_trials

AUDIT_FILE = "audit.json"
_CHECKS = TypeAdapter(dict[str, AuditedCheck])


class BestNull(NamedTuple):
    """The null model with the highest weighted score on some checks."""

    name: str
    score: float
    """0..1; how much of the score can be had without knowing anything."""


class Audit(NamedTuple):
    """What a run over null models found."""

    checks: dict[str, AuditedCheck]
    """Every check that was scored, in report order."""
    best: BestNull | None
    """None when nothing was scored."""

    @property
    def vacuous(self) -> dict[str, tuple[str, ...]]:
        """The checks that some null model passed, with its name; they prove nothing."""
        return {check: found.passed_by for check, found in self.checks.items() if found.passed_by}


def audit_of(data: RunData) -> Audit:
    """Return the audit of a run over null models.

    One pass in any trial makes a check vacuous: nothing that was asked can have caused it.
    """
    passed: dict[str, list[str]] = {}
    versions: dict[str, str | None] = {}
    weights: dict[str, float] = {}
    for model in model_trials(data):
        for check in model.scored_checks:
            name = check.plan.check
            versions[name], weights[name] = check.plan.version, check.plan.weight
            passed.setdefault(name, [])
            if check.passes:
                passed[name].append(model.name)
    checks = {
        name: AuditedCheck(version=versions[name], passed_by=tuple(nulls))
        for name, nulls in passed.items()
    }
    return Audit(checks, best_null(checks, weights))


def best_null(checks: Mapping[str, AuditedCheck], weights: Mapping[str, float]) -> BestNull | None:
    """Return the null model that scores highest over `weights`, None without a weighted check."""
    total = sum(weights.values())
    if total <= 0:
        return None
    scores: dict[str, float] = {}
    for name, weight in weights.items():
        for null in checks[name].passed_by:
            scores[null] = scores.get(null, 0.0) + weight
    if not scores:
        return BestNull("", 0.0)
    best = max(sorted(scores), key=lambda null: scores[null])
    return BestNull(best, min(1.0, scores[best] / total))


def null_score(model: ModelTrials, audited: Mapping[str, AuditedCheck]) -> BestNull | None:
    """Return what the best null scores on the checks `model` was scored on.

    None when one of them was not audited, or was audited with another text.
    """
    weights = {}
    for check in model.scored_checks:
        found = audited.get(check.plan.check)
        if found is None or found.version != check.plan.version:
            return None
        weights[check.plan.check] = check.plan.weight
    return best_null(audited, weights)


def above_null(score: float, null: float) -> float | None:
    """Return (score − null) / (1 − null), None when a null model has everything (METHOD 7)."""
    return None if null >= 1 else (score - null) / (1 - null)


def read_audit(root: Path) -> dict[str, AuditedCheck]:
    """Return what the audits of a project found so far; a damaged file counts as none."""
    try:
        return _CHECKS.validate_json((root / HOME / AUDIT_FILE).read_bytes())
    except (OSError, ValidationError):
        return {}


def keep_audit(root: Path, found: Mapping[str, AuditedCheck]) -> None:
    """Add what an audit found to the project's file, for the reports of later runs.

    Raises OSError when the file cannot be written.
    """
    known = {**read_audit(root), **found}
    path = root / HOME / AUDIT_FILE
    scratch = path.with_name(path.name + ".tmp")
    content = {check: known[check].model_dump(mode="json") for check in sorted(known)}
    scratch.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
