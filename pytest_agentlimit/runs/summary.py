"""The summary of a run: a pure function of what its folder holds.

The same records give the same summary, whatever order they arrived in and however many workers
made them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

from pytest_agentlimit.errors import Blame
from pytest_agentlimit.measure.latency import median, percentile, quantile_upper
from pytest_agentlimit.measure.score import wilson
from pytest_agentlimit.measure.stability import StabilityLabel, classify
from pytest_agentlimit.runs import gate
from pytest_agentlimit.runs.budgets import P95_IS_MAX_BELOW, judge_budgets
from pytest_agentlimit.runs.comparisons import compare_all
from pytest_agentlimit.runs.energy import EnergyUse, energy_part
from pytest_agentlimit.runs.ladder_part import cut_short, ladder_parts
from pytest_agentlimit.runs.records import GateSettings, Outcome, RunData, TrialRecord
from pytest_agentlimit.runs.rules import score_of
from pytest_agentlimit.runs.schema import (
    CheckPart,
    CompletionPart,
    LatencyPart,
    ModelPart,
    RunInfo,
    RunSummary,
    ScorePart,
    UsagePart,
)
from pytest_agentlimit.runs.sides import side_of_trials
from pytest_agentlimit.runs.trials import CheckTrials, ModelTrials, model_trials
from pytest_agentlimit.text import one_line


def summarise(data: RunData) -> RunSummary:
    """Return the summary of a run, gate included."""
    manifest = data.manifest
    trials = model_trials(data)
    models = tuple(_model(found, manifest.gate, data.energy.get(found.name)) for found in trials)
    sides = [side_of_trials(found) for found in trials]
    return RunSummary(
        run=RunInfo(
            id=manifest.run_id,
            started=manifest.started,
            duration_s=data.duration_s,
            seed=manifest.seed,
            plugin_version=manifest.plugin_version,
            host=manifest.host,
        ),
        models=models,
        comparisons=compare_all(sides) if manifest.purpose == "score" else (),
        gate=gate.gate_part(gate.evaluate(data, models)),
    )


def notes(data: RunData) -> list[str]:
    """Return what a reader must know beside the numbers, one sentence each."""
    found = [*data.notes, *cut_short(data)]
    for model in model_trials(data):
        found += [
            f"{one_line(check.plan.check)} on {one_line(model.name)}: all {check.identical} "
            "outputs are byte-identical, so they count as one trial for every interval; "
            "a cache or a fixed seed makes repeats worthless"
            for check in model.checks
            if check.identical
        ]
        found += [
            f"{one_line(check.plan.check)} on {one_line(model.name)}: passed without asking the "
            "model, which proves nothing about it"
            for check in model.checks
            if any(record.outcome == "passed" and not _asked(record) for record in check.records)
        ]
    return found


def _asked(record: TrialRecord) -> bool:
    """Return whether the model was called; what an earlier part of a climb did counts."""
    rungs = record.ladder.rungs if record.ladder is not None else ()
    return bool(record.calls) or any(rung.latency_ms is not None for rung in rungs)


def _model(model: ModelTrials, settings: GateSettings, energy: EnergyUse | None) -> ModelPart:
    usage = _usage(model.records)
    return ModelPart(
        name=model.name,
        fingerprint=_fingerprint(model),
        score=_score(model),
        latency=_latency(model, settings),
        completion=_completion(model),
        checks=tuple(_check(check) for check in model.checks),
        ladders=ladder_parts(model.checks),
        usage=usage,
        energy=energy_part(energy, model.count("passed"), usage.output_tokens),
    )


def _fingerprint(model: ModelTrials) -> dict[str, Any]:
    """Return what serves a model, with what a preflight found; not what finding it took."""
    found = {key: model.preflight.get(key) for key in ("mode", "faults", "facts")}
    return model.fingerprint | ({"preflight": found} if model.preflight else {})


def _score(model: ModelTrials) -> ScorePart:
    score = score_of(model)
    if score is None:
        return ScorePart(
            value=None, low=None, high=None, rounds=_rounds(model), effective_trials=None
        )
    return ScorePart(
        value=score.value,
        low=score.low,
        high=score.high,
        rounds=_rounds(model),
        effective_trials=score.effective_trials,
    )


def _rounds(model: ModelTrials) -> int:
    """Return how many rounds scored every check; checks that never can be do not hold it at 0."""
    per_check = [
        {record.plan.trial for record in check.scored}
        for check in model.checks
        if any(record.outcome not in ("unsupported", "skipped") for record in check.records)
    ]
    return len(set.intersection(*per_check)) if per_check else 0


def _latency(model: ModelTrials, settings: GateSettings) -> LatencyPart:
    values = [latency for check in model.checks for latency in check.latencies]
    judged = judge_budgets(model, settings)
    return LatencyPart(
        n=len(values),
        p50_ms=median(values) if values else None,
        p95_ms=percentile(values, 95) if values else None,
        p95_is_max=0 < len(values) < P95_IS_MAX_BELOW,
        p95_upper_ms=quantile_upper(values) if values else None,
        over_budget=judged.over if judged else None,
        verdict=judged.verdict if judged else None,
    )


def _completion(model: ModelTrials) -> CompletionPart:
    return CompletionPart(
        expected=model.expected,
        reported=len(model.records),
        scored=sum(len(check.scored) for check in model.checks),
        infra=model.count("infra"),
        unsupported=model.count("unsupported"),
    )


def _check(check: CheckTrials) -> CheckPart:
    plan, worth = check.plan, check.evidence
    rate = wilson(worth.passes, worth.trials) if check.scored else None
    outcomes = Counter(record.outcome for record in check.records)
    blame = Counter(record.blame for record in check.records if record.blame is not None)
    return CheckPart(
        id=plan.check,
        capability=plan.capability,
        weight=plan.weight,
        blocker=plan.blocker,
        trials=len(check.scored),
        passes=check.passes,
        rate_low=rate.low if rate else None,
        rate_high=rate.high if rate else None,
        stability=_stability(check),
        outcomes={name: outcomes[name] for name in get_args(Outcome) if outcomes[name]},
        p50_ms=median(check.latencies) if check.latencies else None,
        blame={name: blame[name] for name in get_args(Blame) if blame[name]},
        first_failure=_first_failure(check),
    )


def _stability(check: CheckTrials) -> StabilityLabel:
    """Return the label; repeats of one output are no evidence that a check is stable."""
    n = len(check.scored)
    if 0 < check.passes < n:
        return "flaky"
    worth = round(check.evidence.trials)
    return classify(worth if check.passes else 0, worth).label


def _first_failure(check: CheckTrials) -> str | None:
    """Return the message of the first failed trial, or of the first that could not be scored."""
    bad = [record for record in check.records if record.outcome != "passed"]
    bad.sort(key=lambda record: record.outcome not in ("failed", "crashed"))
    return bad[0].message if bad else None


def _usage(records: list[TrialRecord]) -> UsagePart:
    calls = [call for record in records for call in record.calls]
    return UsagePart(
        input_tokens=_total([call.usage.input_tokens for call in calls]),
        output_tokens=_total([call.usage.output_tokens for call in calls]),
        calls=len(calls),
    )


def _total(counts: list[int | None]) -> int | None:
    """Return the sum of what was reported, None when nothing was: not measured is not 0."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
