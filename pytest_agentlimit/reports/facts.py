"""What is said of one model below its table: score, latency, completion, limits of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pytest_agentlimit.measure.latency import quantile_upper
from pytest_agentlimit.measure.stability import trials_to_be_stable
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.proof import not_proven
from pytest_agentlimit.runs.budgets import judge_budgets
from pytest_agentlimit.runs.records import GateSettings, Manifest
from pytest_agentlimit.runs.schema import CompletionPart, ModelPart, ScorePart
from pytest_agentlimit.runs.trials import ModelTrials
from pytest_agentlimit.text import one_line

Tone = Literal["good", "bad", "odd", "plain", "strong"]
"""How much a line should stand out; each renderer has its own colours."""

MEDIAN_NEEDS = 6
"""Fewest values whose order statistics bound a median at 95 %."""
P95_NEEDS = 59
"""Fewest values that bound a P95 from above at 95 % (METHOD 4.2)."""
MOST_NAMED = 4


@dataclass(frozen=True)
class Fact:
    """One labelled statement, in parts that belong together."""

    label: str
    parts: tuple[str, ...]
    tone: Tone = "plain"


def served_by(fingerprint: dict[str, Any], manifest: Manifest) -> tuple[str, ...]:
    """Return what is known of what serves a model, then what repeats the run."""
    known = {key: one_line(str(value), 60) for key, value in fingerprint.items() if value}
    engine = " ".join(known[key] for key in ("engine", "engine_version") if key in known)
    said = [engine or "engine not known"]
    if "model" in known:
        said.append(f"model {known['model']}")
    if "quantisation" in known:
        said.append(known["quantisation"])
    if "context" in known:
        said.append(f"context {known['context']}")
    if fingerprint.get("tools") is False:
        said.append("no tool support")
    if "tool_calling" in known:
        said.append(f"tools {known['tool_calling']}")
    if "harness" in known:
        said.append(f"through {known['harness']}")
    if manifest.shape == "agent":
        said.append("agent-shaped requests")
    return (*said, f"seed {manifest.seed}")


def of_model(part: ModelPart, trials: ModelTrials, gate: GateSettings) -> tuple[Fact, ...]:
    """Return the facts of a model in reading order; what would say nothing is left out."""
    found = [
        _score(part.score, trials),
        _latency(part, trials, gate),
        _completion(part.completion, trials),
        _findings(trials),
        _stability(part),
        Fact("not proven", tuple(not_proven(trials, gate))),
    ]
    return tuple(fact for fact in found if fact is not None)


def _score(score: ScorePart, trials: ModelTrials) -> Fact:
    if score.value is None or score.low is None or score.high is None:
        return Fact("score", (f"{numbers.NOT_MEASURED}: no trial was scored",), "strong")
    said = f"{numbers.percent(score.value)} ({numbers.interval(score.low, score.high)})"
    return Fact("score", (f"{said}, {100 * score.level:g} % interval, {_size(trials)}",), "strong")


def _size(trials: ModelTrials) -> str:
    counts = [len(check.scored) for check in trials.scored_checks]
    checks = numbers.count(len(counts), "check")
    if len(set(counts)) == 1:
        return f"n = {checks} × {numbers.count(counts[0], 'trial')}"
    return f"n = {sum(counts)} trials of {checks}"


def _latency(part: ModelPart, trials: ModelTrials, gate: GateSettings) -> Fact:
    latency = part.latency
    if not latency.n:
        return Fact("latency", (numbers.NOT_MEASURED,))
    values = [value for check in trials.checks for value in check.latencies]
    n = f"n = {latency.n}"
    parts = [
        f"median {numbers.milliseconds(latency.p50_ms)} ({median_interval(values)})",
        f"P95 {numbers.milliseconds(latency.p95_ms)} ({n}{_p95_label(latency.p95_is_max)})",
    ]
    if latency.p95_upper_ms is None:
        parts.append(f"upper bound of P95: not enough runs (need {P95_NEEDS})")
    else:
        parts.append(f"P95 is at most {numbers.milliseconds(latency.p95_upper_ms)} (95 %, {n})")
    judged = judge_budgets(trials, gate)
    if judged is not None and judged.n:
        parts.append(f"{judged.over} of {judged.n} over budget: {judged.verdict}")
    return Fact("latency", tuple(parts))


def _p95_label(is_max: bool) -> str:
    return ": the maximum" if is_max else ""


def _bare_ms(value: float) -> str:
    return numbers.milliseconds(value).removesuffix(" ms")


def median_interval(values: list[float], shown: Callable[[float], str] = _bare_ms) -> str:
    """Return the interval between two order statistics that holds the median (95 %)."""
    high = quantile_upper(values, 0.5, 0.975)
    low = quantile_upper([-value for value in values], 0.5, 0.975)
    if high is None or low is None:
        return f"interval: not enough runs (need {MEDIAN_NEEDS})"
    return f"{shown(-low)}–{shown(high)}"


def _completion(completion: CompletionPart, trials: ModelTrials) -> Fact | None:
    if completion.scored == completion.expected:
        return None
    outcomes = ("infra", "unsupported", "inconclusive", "skipped")
    lost = completion.expected - completion.reported
    rest = [f"{n} {name}" for name in outcomes if (n := trials.count(name))]
    rest += [f"{lost} without a report"] if lost else []
    said = f"{completion.scored} of {completion.expected} trials scored"
    return Fact("completion", (f"{said}: {', '.join(rest)}",), "odd")


def _findings(trials: ModelTrials) -> Fact | None:
    """Return the deviations that were tolerated, the most frequent first."""
    codes = Counter(
        one_line(finding.code, 60)
        for record in trials.records
        for call in record.calls
        for finding in call.findings
    )
    if not codes:
        return None
    ranked = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{code} ×{times}" for code, times in ranked[:MOST_NAMED]]
    if len(ranked) > MOST_NAMED:
        named.append(f"{len(ranked) - MOST_NAMED} more kinds")
    total = numbers.count(codes.total(), "deviation")
    return Fact("tolerated", (f"{total}: {', '.join(named)}",), "odd")


def _stability(part: ModelPart) -> Fact | None:
    """Return how many checks are stable or flaky, as far as their trials can tell (METHOD 2)."""
    most = max((check.trials for check in part.checks), default=0)
    if not most:
        return None
    needed = trials_to_be_stable()
    if most == 1:
        said = (
            f"one trial cannot tell stable from flaky: not enough runs (need {needed} equal ones)"
        )
        return Fact("stability", (said,))
    labels: Counter[str] = Counter(check.stability for check in part.checks if check.trials)
    words = {
        "stable_pass": "stable pass",
        "flaky": "flaky",
        "stable_fail": "stable fail",
        "undetermined": f"undetermined: not enough runs (need {needed} equal ones)",
    }
    return Fact("stability", tuple(f"{labels[k]} {w}" for k, w in words.items() if labels[k]))
