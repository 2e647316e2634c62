"""Trials held against their latency budgets: one judgement for the summary and the gate."""

from __future__ import annotations

import math
from typing import NamedTuple

from pytest_agentlimit.measure.latency import (
    budget_verdict,
    percentile,
    trials_to_pass,
    within_budget,
)
from pytest_agentlimit.runs.records import GateSettings
from pytest_agentlimit.runs.schema import Verdict
from pytest_agentlimit.runs.trials import ModelTrials

P95_IS_MAX_BELOW = 20
"""With fewer values the nearest rank of the 95th percentile is the last one."""


class Sample(NamedTuple):
    """The latency of one trial and the budget it had, both in milliseconds."""

    latency: float
    budget: float

    @property
    def over(self) -> bool:
        """True when the trial took longer than it may."""
        return self.latency > self.budget


class BudgetJudgement(NamedTuple):
    """What the trials of one model show about their budgets (METHOD 4.3)."""

    n: int
    over: int
    verdict: Verdict
    leans_to_pass: bool
    """The point estimate: every quantile in question is within budget."""
    more: int | None
    """Further trials within budget that would decide for a pass; None once a breach is proven."""
    ratio: float
    """The quantile of latency / budget; the worst one where checks ask for several quantiles."""
    quantiles: tuple[float, ...]


def judge_budgets(model: ModelTrials, settings: GateSettings) -> BudgetJudgement | None:
    """Return the judgement on all scored trials that have a budget, or None when none has.

    A duration given to the gate is the budget of every trial, at P95. Otherwise each check brings
    its own; since trials are held against their own budget, checks pool. Checks with different
    quantiles are judged apart, and the worst verdict counts.
    """
    pools = _pools(model, settings)
    if not pools:
        return None
    parts = [_judge_pool(q, samples) for q, samples in sorted(pools.items())]
    verdicts = {part.verdict for part in parts}
    verdict: Verdict = "pass"
    if verdicts != {"pass"}:
        verdict = "fail" if "fail" in verdicts else "inconclusive"
    return BudgetJudgement(
        n=sum(part.n for part in parts),
        over=sum(part.over for part in parts),
        verdict=verdict,
        leans_to_pass=all(part.leans_to_pass for part in parts),
        more=None if verdict == "fail" else sum(part.more or 0 for part in parts),
        ratio=max(part.ratio for part in parts),
        quantiles=tuple(sorted(pools)),
    )


def _pools(model: ModelTrials, settings: GateSettings) -> dict[float, list[Sample]]:
    """Return the samples by the quantile their budget speaks of."""
    pools: dict[float, list[Sample]] = {}
    for check in model.checks:
        plan = check.plan
        if isinstance(settings.p95, (int, float)):
            budget, quantile = settings.p95, 0.95
        elif plan.budget_ms is not None:
            budget, quantile = plan.budget_ms, plan.budget_quantile
        else:
            continue
        for latency in check.latencies:
            pools.setdefault(quantile, []).append(Sample(latency, budget))
    return pools


def _judge_pool(q: float, samples: list[Sample]) -> BudgetJudgement:
    n, over = len(samples), sum(sample.over for sample in samples)
    ratios = [s.latency / s.budget if s.budget > 0 else math.inf for s in samples]
    return BudgetJudgement(
        n=n,
        over=over,
        verdict=budget_verdict(over, n, q),
        leans_to_pass=within_budget(over, n, q),
        more=trials_to_pass(over, n, q),
        ratio=percentile(ratios, round(100 * q, 9)),
        quantiles=(q,),
    )
