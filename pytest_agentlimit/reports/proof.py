"""What a run could not have proven, however well the model did (METHOD 1, 2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_agentlimit.measure.score import weighted_score
from pytest_agentlimit.reports.numbers import count, percent
from pytest_agentlimit.runs.budgets import judge_budgets
from pytest_agentlimit.runs.records import GateSettings
from pytest_agentlimit.runs.trials import ModelTrials

USUAL_BAR = 0.8
"""The bar to speak of when the user has set none."""
MOST_ROUNDS = 1000


def proves(weights: Sequence[float], rounds: int) -> float:
    """Return the lower bound of the score, 0..1, after `rounds` perfect rounds."""
    perfect = [rounds] * len(weights)
    return weighted_score(perfect, perfect, weights).low


def rounds_to_prove(weights: Sequence[float], bar: float) -> int | None:
    """Return the fewest perfect rounds that prove a score of `bar`, None above MOST_ROUNDS."""
    low, high = 0, MOST_ROUNDS
    if proves(weights, high) < bar:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(weights, middle) >= bar else (middle, high)
    return high


def not_proven(model: ModelTrials, settings: GateSettings) -> list[str]:
    """Return what these trials leave open, in short clauses, the score first."""
    return [*_score_limits(model, settings), *_latency_limits(model, settings)]


def _score_limits(model: ModelTrials, settings: GateSettings) -> list[str]:
    checks = [check for check in model.scored_checks if check.plan.weight > 0]
    if not checks:
        return ["anything about the score: no trial was scored"]
    weights = [check.plan.weight for check in checks]
    rounds = int(min(check.evidence.trials for check in checks))  # identical outputs are one
    bar = USUAL_BAR if settings.min_score is None else settings.min_score
    bound = proves(weights, rounds)
    subject = "one perfect round proves" if rounds == 1 else f"{rounds} perfect rounds prove"
    clauses = [f"{subject} only ≥ {percent(bound)}"]
    if bound < bar:
        needed = rounds_to_prove(weights, bar)
        goal = f"≥ {100 * bar:g} %"
        clauses.append(
            f"{goal} needs {count(needed, 'perfect round')}" if needed else f"no run proves {goal}"
        )
    return clauses


def _latency_limits(model: ModelTrials, settings: GateSettings) -> list[str]:
    judged = judge_budgets(model, settings)
    if judged is None or not judged.n:
        return ["latency: no scored trial has a budget"]
    if not judged.more:
        return []
    name = "P95" if judged.quantiles == (0.95,) else "latency"
    if judged.over:
        return [f"a {name} pass needs {count(judged.more, 'more trial')} within budget"]
    needed = judged.n + judged.more
    return [f"a {name} pass needs {needed} trials within budget (this run: {judged.n})"]
