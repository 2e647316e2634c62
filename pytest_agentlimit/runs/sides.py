"""One side of a comparison: what a run, a report file or a lock knows of one model's checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from pytest_agentlimit.measure.ceiling import Ceiling
from pytest_agentlimit.measure.latency import median
from pytest_agentlimit.measure.score import wilson
from pytest_agentlimit.runs.lock import Lock, LockedModel
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.schema import Share
from pytest_agentlimit.runs.trials import CheckTrials, ModelTrials, model_trials

MOST_TRIALS = 1_000_000
"""Of one check in a report file; more is no run but a damaged number."""


class Budget(NamedTuple):
    """The latency budget of a check: milliseconds, None without one, and its quantile."""

    ms: float | None
    quantile: float


@dataclass(frozen=True)
class SideCheck:
    """One check on one side; byte-identical repeats count as one trial."""

    weight: float
    passes: float
    """May be a fraction where identical outputs were judged differently."""
    trials: float
    budget: Budget | None = None
    """None: the source does not tell."""
    version: str | None = None
    """Text of the check or version of its generator; None: the source does not tell."""
    p50_ms: float | None = None
    """Median latency, +inf when most trials timed out; None: not measured."""
    log_ms: float | None = None
    """Mean of the log of its plausible latencies; None when there is none."""
    timed_out: bool = False
    """A trial timed out, so its latencies are no fair sample of its speed."""

    @property
    def whole_passes(self) -> int:
        """Passes as a count for exact tests; a half counts as failed."""
        return math.ceil(self.passes - 0.5)


class SideLadder(NamedTuple):
    """One climb on one side, brought to its end."""

    levels: tuple[int, ...]
    reliability: float
    ceiling: int
    low: int
    high: int
    trials: int
    rungs: tuple[float, ...]
    """The chance that the ceiling is 0, 1, 2 … rungs high."""


@dataclass(frozen=True)
class Side:
    """One model as one source measured it."""

    name: str
    checks: dict[str, SideCheck]
    """By check id, in the order of the source, only those that were scored."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    shape: str | None = None
    """bare or agent; None: the source does not tell."""
    source: Literal["trials", "report", "lock"] = "trials"
    ladders: dict[tuple[str, int], SideLadder] = field(default_factory=dict)
    """By check id and trial, the climbs that came to their end; a lock tells of none."""


def sides_of_run(data: RunData) -> list[Side]:
    """Return the models of a run, in its order."""
    return [side_of_trials(found, data.manifest.shape) for found in model_trials(data)]


def side_of_trials(model: ModelTrials, shape: str | None = None) -> Side:
    """Return a model with its own trials, which is all there is to know."""
    checks = {check.plan.check: _of_trials(check) for check in model.scored_checks}
    ladders = {
        (check.plan.check, trial): _of_climb(climb.ceiling)
        for check in model.checks
        for trial, climb in check.climbs.items()
        if climb.ceiling.ended != "open"
    }
    return Side(model.name, checks, model.fingerprint, shape, ladders=ladders)


def sides_of_lock(lock: Lock) -> list[Side]:
    """Return the models of a lock, in its order."""
    return [side_of_locked(model, lock.shape) for model in lock.models]


def side_of_locked(model: LockedModel, shape: str | None) -> Side:
    """Return a locked model: counts, budgets and versions, and no latency."""
    checks = {
        check: SideCheck(
            weight=locked.weight,
            passes=locked.passes,
            trials=locked.trials,
            budget=Budget(locked.budget_ms, locked.budget_quantile),
            version=locked.version,
        )
        for check, locked in model.checks.items()
    }
    return Side(model.name, checks, model.fingerprint, shape, "lock")


class ReportCheck(BaseModel):
    """What is read of a check in a JSON report; other keys may be there."""

    id: str
    weight: float = Field(ge=0, allow_inf_nan=False)
    trials: int = Field(ge=0, le=MOST_TRIALS)
    passes: int = Field(ge=0)
    rate_low: float | None
    rate_high: float | None
    p50_ms: float | None

    @model_validator(mode="after")
    def _passes_are_trials(self) -> ReportCheck:
        if self.passes > self.trials:
            raise ValueError("more passes than trials")
        return self


class ReportLevel(BaseModel):
    """What is read of a level of a ladder in a JSON report."""

    level: int = Field(ge=1)


class ReportLadder(BaseModel):
    """What is read of a climb in a JSON report; other keys may be there."""

    id: str
    trial: int
    reliability: float = Field(gt=0, lt=1)
    ceiling: int | None
    low: int | None
    high: int | None
    trials: int = Field(ge=0)
    ended: str
    levels: tuple[ReportLevel, ...]
    posterior: tuple[Share, ...]

    @model_validator(mode="after")
    def _chances_are_whole(self) -> ReportLadder:
        if len(self.posterior) != len(self.levels) + 1 or abs(sum(self.posterior) - 1) > 1e-6:
            raise ValueError("the posterior of a ladder is no distribution over its levels")
        return self


class ReportModel(BaseModel):
    """What is read of a model in a JSON report; other keys may be there."""

    name: str
    fingerprint: dict[str, Any]
    checks: tuple[ReportCheck, ...]
    ladders: tuple[ReportLadder, ...] = ()


class Report(BaseModel):
    """What is read of a JSON report, schema version 1 (reports may have keys of others)."""

    schema_version: Literal[1]
    models: tuple[ReportModel, ...]


def sides_of_report(report: Report) -> list[Side]:
    """Return the models of a JSON report: counts and medians, no budgets and no versions."""
    return [
        Side(
            model.name,
            {check.id: _of_report(check) for check in model.checks if check.trials > 0},
            {key: value for key, value in model.fingerprint.items() if key != "preflight"},
            source="report",
            ladders=dict(_ladders_of_report(model.ladders)),
        )
        for model in report.models
    ]


def _ladders_of_report(
    ladders: Iterable[ReportLadder],
) -> Iterator[tuple[tuple[str, int], SideLadder]]:
    for one in ladders:
        if one.ended == "open" or one.ceiling is None or one.low is None or one.high is None:
            continue
        levels = tuple(level.level for level in one.levels)
        known = (one.ceiling, one.low, one.high, one.trials, one.posterior)
        yield (one.id, one.trial), SideLadder(levels, one.reliability, *known)


def _of_climb(ceiling: Ceiling) -> SideLadder:
    return SideLadder(
        levels=ceiling.levels,
        reliability=ceiling.reliability,
        ceiling=ceiling.ceiling,
        low=ceiling.low,
        high=ceiling.high,
        trials=ceiling.trials,
        rungs=ceiling.rungs,
    )


def _of_trials(check: CheckTrials) -> SideCheck:
    plan, worth, measured = check.plan, check.evidence, check.latencies
    finite = [math.log(ms) for ms in measured if _is_plausible(ms)]
    return SideCheck(
        weight=plan.weight,
        passes=worth.passes,
        trials=worth.trials,
        budget=Budget(plan.budget_ms, plan.budget_quantile),
        version=plan.version,
        p50_ms=median(measured) if measured else None,
        log_ms=fmean(finite) if finite else None,
        timed_out=math.inf in measured,
    )


def _of_report(check: ReportCheck) -> SideCheck:
    rate, worth = check.passes / check.trials, _worth(check)
    p50 = check.p50_ms
    return SideCheck(
        weight=check.weight,
        passes=rate * worth,
        trials=worth,
        p50_ms=p50,
        # The only latency of a check that a report holds; for one trial it is the trial's own.
        log_ms=math.log(p50) if p50 is not None and _is_plausible(p50) else None,
        timed_out=p50 == math.inf,
    )


def _is_plausible(ms: float) -> bool:
    """Return whether a latency lies between a picosecond and 30 years.

    Ratios of what does not, a timeout or a damaged number, are no finite speed.
    """
    return 1e-9 < ms < 1e12


def _worth(check: ReportCheck) -> int:
    """Return how many trials the interval in the report stands for: identical ones are one."""
    told = (check.rate_low, check.rate_high)
    for worth in range(check.trials, 0, -1):
        shown = wilson(check.passes / check.trials * worth, worth)
        if all(t is not None and abs(t - s) < 1e-9 for t, s in zip(told, shown, strict=True)):
            return worth
    return check.trials
