"""The gate: all rules of a run, their common verdict, and what it does to the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_agentlimit.runs import rules
from pytest_agentlimit.runs.baseline import baseline_rule
from pytest_agentlimit.runs.records import GateSettings, RunData
from pytest_agentlimit.runs.rules import ModelView, RuleResult
from pytest_agentlimit.runs.schema import GatePart, ModelPart, RulePart, Verdict
from pytest_agentlimit.runs.trials import model_trials
from pytest_agentlimit.text import one_line

_MODEL_RULES = (
    rules.score_rule,
    rules.p95_rule,
    rules.blockers_rule,
    rules.completion_rule,
    rules.scored_rule,
)


def evaluate(data: RunData, models: Sequence[ModelPart]) -> list[RuleResult]:
    """Return every rule in force, rule by rule and model by model.

    `models` are those of the run's summary. A run without any model fails as one that scored
    nothing. Source: DESIGN 5.
    """
    settings = data.manifest.gate
    trials = {found.name: found for found in model_trials(data)}
    views = [
        ModelView(trials[part.name], part, settings, _label(part.name, len(models)))
        for part in models
    ]
    found = [rule(view) for rule in _MODEL_RULES for view in views]
    found += [baseline_rule(view, data.manifest.shape) for view in views]
    results = [result for result in found if result]
    if not views:
        results.append(RuleResult(_no_model(), False))
    reported = rules.reported_rule(data)
    return [*results, reported] if reported else results


def gate_part(results: Iterable[RuleResult]) -> GatePart:
    """Return the gate: any fail is a fail, else any inconclusive is inconclusive, else a pass."""
    parts = tuple(result.part for result in results)
    verdicts = {part.verdict for part in parts}
    verdict: Verdict = "pass"
    if "fail" in verdicts:
        verdict = "fail"
    elif "inconclusive" in verdicts:
        verdict = "inconclusive"
    return GatePart(verdict=verdict, rules=parts)


def is_red(results: Iterable[RuleResult], settings: GateSettings) -> bool:
    """Return True when the gate must turn the exit code of the run red.

    Without a gate option only a lost report does: the rest is plain pytest. With one, a failed
    rule does in every mode but `off`; an inconclusive one does in `strict`, never in `proven`,
    and in `point` when its point estimate leans to a fail.
    """
    if settings.mode == "off":
        return False
    if not settings.asked:
        return any(r.part.rule == "reported" and r.part.verdict == "fail" for r in results)
    return any(_reddens(result, settings) for result in results)


def _reddens(result: RuleResult, settings: GateSettings) -> bool:
    if result.part.verdict != "inconclusive":
        return result.part.verdict == "fail"
    if settings.mode == "strict":
        return True
    return settings.mode == "point" and not result.leans_to_pass


def _label(name: str, models: int) -> str:
    return f"{one_line(name)}: " if models > 1 else ""


def _no_model() -> RulePart:
    return RulePart(
        rule="scored",
        verdict="fail",
        observed=0,
        limit=1,
        message="nothing was scored: the run has no model; name one with --agent-model",
    )
