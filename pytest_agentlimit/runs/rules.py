"""The rules of the gate: each looks at one thing and says pass, fail or inconclusive (DESIGN 5).

A rule that is not in force for a run returns None. Sentences are written here once; every report
prints them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from pytest_agentlimit.measure.evidence import for_threshold
from pytest_agentlimit.measure.score import WeightedScore, weighted_score
from pytest_agentlimit.runs.budgets import P95_IS_MAX_BELOW, BudgetJudgement, judge_budgets
from pytest_agentlimit.runs.records import GateSettings, RunData
from pytest_agentlimit.runs.schema import ModelPart, RulePart, Verdict
from pytest_agentlimit.runs.stopping import Stop
from pytest_agentlimit.runs.trials import Evidence, ModelTrials, needed_and_lost
from pytest_agentlimit.text import one_line

EPSILON = 1e-9
"""A score that meets its bar on paper must not miss it by a rounding error."""
MOST_ROUNDS = 1000
"""How far the score rule looks ahead; beyond it, more trials are no practical advice."""
NAMED = 3
"""How many lost trials or failed checks a message names."""


class RuleResult(NamedTuple):
    """A rule's part of the report, and which way its point estimate leans."""

    part: RulePart
    leans_to_pass: bool


class ModelView(NamedTuple):
    """One model as the rules see it."""

    trials: ModelTrials
    part: ModelPart
    settings: GateSettings
    label: str
    """`model: ` when the run has several, else empty."""


def score_rule(view: ModelView) -> RuleResult | None:
    """Hold the interval of the score against the bar (METHOD 3, fixed n)."""
    bar, score = view.settings.min_score, view.part.score
    if bar is None or view.part.completion.scored == 0:
        return None
    if score.value is None or score.low is None or score.high is None:
        message = f"{view.label}a score was asked for and no scored check has a weight above 0"
        return RuleResult(_part("score", "fail", None, bar, message), False)
    leans = score.value >= bar - EPSILON
    verdict: Verdict
    value, limit = _apart(score.value, bar)
    seen = f"{view.label}score {value} ({100 * score.low:.1f}–{100 * score.high:.1f})"
    if view.trials.stop is not None:
        verdict = view.trials.stop.verdict
        message = f"{seen}: {_evidence_text(view.trials.stop, bar)}"
    elif score.low >= bar - EPSILON:
        verdict = "pass"
        message = f"{seen}: the whole interval is at or above the bar of {limit}"
    elif score.high < bar - EPSILON:
        verdict = "fail"
        message = f"{seen}: the whole interval is below the bar of {limit}"
    else:
        verdict = "inconclusive"
        message = (
            f"{seen} cannot decide on the bar of {limit}: it leans to a {_lean(leans)}, "
            f"and {_rounds_text(rounds_to_decide(view.trials, bar))}"
        )
    return RuleResult(_part("score", verdict, score.value, bar, message), leans)


def p95_rule(view: ModelView) -> RuleResult | None:
    """Hold the 95th percentile of the trials against their budgets (METHOD 4.3)."""
    asked = view.settings.p95
    if asked is None or view.part.completion.scored == 0:
        return None
    judged = judge_budgets(view.trials, view.settings)
    if judged is None:
        why = "no scored trial has a latency"
        if asked == "within-budget":
            why = 'no scored check has a latency; mark checks with latency_budget("8s")'
        message = f"{view.label}P95 was asked for and nothing could be held against it: {why}"
        message += _left_out(view)
        return RuleResult(_part("p95", "fail", None, None, message), False)
    observed, limit, seen = _p95_seen(view, judged)
    message = f"{view.label}{seen}, {judged.over} of {judged.n} over budget: "
    if judged.verdict == "pass":
        message += "within budget (95 % confidence)"
    elif judged.verdict == "fail":
        message += "more over budget than chance allows (95 % confidence)"
    else:
        message += (
            f"too few trials to decide; it leans to a {_lean(judged.leans_to_pass)}, and "
            f"{_count(judged.more or 0, 'more trial')} within budget would decide for a pass"
        )
    message += _left_out(view)
    part = _part("p95", judged.verdict, observed, limit, message)
    return RuleResult(part, judged.leans_to_pass)


def blockers_rule(view: ModelView) -> RuleResult | None:
    """Fail when a check marked as a blocker failed in any trial."""
    blockers = [check for check in view.trials.checks if check.plan.blocker]
    if not blockers:
        return None
    broken = [check.plan.check for check in blockers if check.passes < len(check.scored)]
    unseen = [check.plan.check for check in blockers if not check.scored]
    total = _count(len(blockers), "blocker")
    if broken:
        verdict: Verdict = "fail"
        message = f"{view.label}{len(broken)} of {total} failed: {_names(broken)}"
    elif unseen:
        verdict = "inconclusive"
        message = (
            f"{view.label}{len(unseen)} of {total} never scored: {_names(unseen)}; "
            "it leans to a fail until they have run"
        )
    else:
        verdict = "pass"
        message = f"{view.label}every trial of {total} passed"
    part = _part("blockers", verdict, len(broken), 0, message)
    return RuleResult(part, verdict == "pass")


def completion_rule(view: ModelView) -> RuleResult | None:
    """Fail when too few of the trials that could be scored were."""
    completion, bar = view.part.completion, view.settings.min_completion
    due = completion.expected - completion.unsupported - view.trials.count("skipped")
    if due <= 0:
        return None
    share = completion.scored / due
    ok = share >= bar - EPSILON
    value, limit = _apart(share, bar)
    message = f"{view.label}{completion.scored} of {_count(due, 'trial')} scored ({value})"
    if ok:
        message += f", the bar is {limit}"
    else:
        message += (
            f", below the bar of {limit}: {completion.infra} stopped by infrastructure, "
            f"{completion.expected - completion.reported} without a report; mend that and run again"
        )
    return RuleResult(_part("completion", _verdict(ok), share, bar, message), ok)


def scored_rule(view: ModelView) -> RuleResult:
    """Fail when nothing was scored: a run without evidence must not look green."""
    scored = view.part.completion.scored
    message = f"{view.label}{_count(scored, 'trial')} scored"
    if not scored:
        message = (
            f"{view.label}nothing was scored, so nothing is known about the model; "
            "look at the skipped and infra trials above"
        )
        if not view.part.completion.expected:
            message = f"{view.label}no check was collected for the model; check paths, -k and -m"
    return RuleResult(_part("scored", _verdict(scored > 0), scored, 1, message), scored > 0)


def reported_rule(data: RunData) -> RuleResult | None:
    """Fail when a collected trial has no report (xdist can lose the last one and exit 0)."""
    if not data.expected:
        return None
    expected, lost = needed_and_lost(data)
    reported = expected - len(lost)
    message = f"all {_count(expected, 'collected trial')} reported"
    if lost:
        message = (
            f"{reported} of {_count(expected, 'collected trial')} reported; lost: {_names(lost)}; "
            "the run was interrupted or a worker died, run again"
        )
    part = _part("reported", _verdict(not lost), reported, expected, message)
    return RuleResult(part, not lost)


def rounds_to_decide(trials: ModelTrials, bar: float) -> int | None:
    """Return about how many more rounds at the same pass rates would decide, None if too many.

    An extrapolation and no promise: the next rounds have rates of their own.
    """

    def decided(rounds: int) -> bool:
        score = score_of(trials, rounds)
        if score is None:
            return False
        return score.low >= bar - EPSILON or score.high < bar - EPSILON

    if not decided(MOST_ROUNDS):
        return None
    low, high = 0, MOST_ROUNDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def score_of(trials: ModelTrials, more_rounds: int = 0) -> WeightedScore | None:
    """Return the weighted score of a model (METHOD 1), or None when nothing that counts is scored.

    `more_rounds` adds that many trials to every check at the pass rate it has.
    """
    checks = [(check.plan.weight, check.evidence) for check in trials.scored_checks]
    return score_of_evidence(checks, more_rounds)


def score_of_evidence(
    checks: Iterable[tuple[float, Evidence]], more_rounds: int = 0
) -> WeightedScore | None:
    """Return the weighted score of checks given as weight and evidence, as `score_of` does."""
    counted = [(weight, found) for weight, found in checks if weight > 0]
    if not counted:
        return None
    totals = [found.trials + more_rounds for _, found in counted]
    rates = [found.passes / found.trials for _, found in counted]
    passes = [min(n, rate * n) for rate, n in zip(rates, totals, strict=True)]
    return weighted_score(passes, totals, [weight for weight, _ in counted])


def _left_out(view: ModelView) -> str:
    """Return what is said of trials that are no samples of latency, empty when all are."""
    crowded = sum(check.left_out for check in view.trials.checks)
    cold = sum(check.cold for check in view.trials.checks)
    said = ""
    if crowded:
        declared = _count(view.trials.callers, "call")
        said += f"; {_count(crowded, 'trial')} left out: not exactly the declared {declared}"
        said += " at a time"
    if cold:
        said += f"; {_count(cold, 'trial')} left out: the server was loading the model"
    return said


def _evidence_text(stop: Stop, bar: float) -> str:
    bad, good = for_threshold(bar)
    after = f"decided after round {stop.round} by the evidence gate"
    if stop.verdict == "pass":
        return (
            f"{after}: the outcomes are at least 20 times likelier at {_percent(good)} than at "
            f"the bar of {_percent(bad)}; a model at the bar gets this far at most 1 time in 20"
        )
    return (
        f"{after}: the outcomes are at least 20 times likelier at the bar of {_percent(bad)} "
        f"than at {_percent(good)}; a model that good gets this far at most 1 time in 20"
    )


def _p95_seen(view: ModelView, judged: BudgetJudgement) -> tuple[float, float, str]:
    """Return observed, limit and the words for them: milliseconds, or multiples of the budget."""
    is_max = judged.quantiles == (0.95,) and judged.n < P95_IS_MAX_BELOW
    maximum = " (the maximum)" if is_max else ""
    asked, p95 = view.settings.p95, view.part.latency.p95_ms
    if isinstance(asked, (int, float)) and p95 is not None:
        return p95, asked, f"P95 is {_ms(p95)}{maximum} against a budget of {_ms(asked)}"
    names = ", ".join(f"P{100 * q:g}" for q in judged.quantiles)
    times = "a timeout" if math.isinf(judged.ratio) else f"{judged.ratio:.2f} times the budget"
    return judged.ratio, 1.0, f"{names} is {times}{maximum}"


def _part(
    rule: str, verdict: Verdict, observed: float | None, limit: float | None, message: str
) -> RulePart:
    return RulePart(rule=rule, verdict=verdict, observed=observed, limit=limit, message=message)


def _verdict(ok: bool) -> Verdict:
    return "pass" if ok else "fail"


def _lean(to_pass: bool) -> str:
    return "pass" if to_pass else "fail"


def _rounds_text(rounds: int | None) -> str:
    if rounds is None:
        return f"more than {MOST_ROUNDS} more rounds like these would be needed"
    return f"about {_count(rounds, 'more round')} like these would decide"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(ids: list[str]) -> str:
    named = ", ".join(one_line(name) for name in ids[:NAMED])
    return named if len(ids) <= NAMED else f"{named} and {len(ids) - NAMED} more"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _apart(observed: float, limit: float) -> tuple[str, str]:
    """Return both as percentages, with as many digits as it takes to tell them apart."""
    for digits in (1, 2, 3, 4):
        shown = _percent(observed, digits), _percent(limit, digits)
        if shown[0] != shown[1]:
            return shown
    return _percent(observed), _percent(limit)


def _ms(value: float) -> str:
    return "a timeout" if math.isinf(value) else f"{value:.0f} ms"
