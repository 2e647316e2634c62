"""Records put in order: one entry per trial, grouped by check and model.

Summary and gate both start here, so that they cannot disagree on what a trial is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pytest_agentlimit.runs.expected import bare_nodeid
from pytest_agentlimit.runs.records import SCORED, CheckPlan, RunData, TrialRecord


@dataclass(frozen=True)
class Evidence:
    """What the trials of a check are worth to an interval; passes may be a fraction."""

    passes: float
    trials: float


@dataclass(frozen=True)
class CheckTrials:
    """The trials of one check on one model, in trial order, never empty."""

    records: tuple[TrialRecord, ...]

    @property
    def plan(self) -> CheckPlan:
        """The markers of the check, as its last trial saw them."""
        return self.records[-1].plan

    @cached_property
    def scored(self) -> tuple[TrialRecord, ...]:
        """The trials that are evidence about the model."""
        return tuple(record for record in self.records if record.outcome in SCORED)

    @property
    def passes(self) -> int:
        """How many trials passed."""
        return sum(record.outcome == "passed" for record in self.records)

    @cached_property
    def latencies(self) -> list[float]:
        """Milliseconds of every scored trial that was measured; +inf after a timeout."""
        return [found for record in self.scored if (found := record.latency) is not None]

    @cached_property
    def identical(self) -> int:
        """How many finished trials gave byte-identical output, or 0 when they are independent."""
        finished = [record for record in self.scored if record.outcome != "crashed"]
        outputs = {tuple(call.output_digest for call in record.calls) for record in finished}
        if len(finished) < 2 or len(outputs) != 1:
            return 0
        (output,) = outputs
        return 0 if not output or None in output else len(finished)

    @cached_property
    def evidence(self) -> Evidence:
        """The scored trials, identical ones counted as one; the pass rate is not touched."""
        n = len(self.scored)
        if not self.identical:
            return Evidence(self.passes, n)
        worth = n - self.identical + 1
        return Evidence(self.passes * worth / n, worth)


@dataclass(frozen=True)
class ModelTrials:
    """Everything recorded about one model, checks in collection order."""

    name: str
    fingerprint: dict[str, Any] = field(default_factory=dict)
    checks: tuple[CheckTrials, ...] = ()
    expected: int = 0
    """Collected trials; at least as many as have a record."""

    @property
    def records(self) -> list[TrialRecord]:
        """All trials, check by check."""
        return [record for check in self.checks for record in check.records]

    @property
    def scored_checks(self) -> list[CheckTrials]:
        """The checks the score is made of: those with at least one scored trial."""
        return [check for check in self.checks if check.scored]

    def count(self, *outcomes: str) -> int:
        """Return how many trials ended in one of `outcomes`."""
        return sum(record.outcome in outcomes for record in self.records)


def model_trials(data: RunData) -> list[ModelTrials]:
    """Return the models of a run in manifest order, with the trials that count.

    Of several attempts at a trial the last one counts. Checks stand in collection order, or
    in the order of their first record where that is not known.
    """
    by_model: dict[str, dict[str, list[TrialRecord]]] = {}
    for record in _last_attempts(data.records):
        checks = by_model.setdefault(record.plan.model, {})
        checks.setdefault(record.plan.check, []).append(record)
    place = {trial.nodeid: i for i, trial in enumerate(data.expected)}
    fingerprints = {entry.name: entry.fingerprint for entry in data.manifest.models}
    collected: dict[str, set[str]] = {}
    for trial in data.expected:
        if trial.model is not None:
            collected.setdefault(trial.model, set()).add(trial.nodeid)
    models = []
    for name in dict.fromkeys([*fingerprints, *by_model]):
        checks = by_model.get(name, {})
        seen = {bare_nodeid(r.nodeid) for records in checks.values() for r in records}
        models.append(
            ModelTrials(
                name=name,
                fingerprint=fingerprints.get(name, {}),
                checks=_in_order(checks, place),
                expected=len(collected.get(name, set()) | seen),
            )
        )
    return models


def lost_trials(data: RunData) -> list[str]:
    """Return the node ids that were collected and never reported, in collection order."""
    reported = {bare_nodeid(record.nodeid) for record in data.records}
    return list(dict.fromkeys(t.nodeid for t in data.expected if t.nodeid not in reported))


def _last_attempts(records: Iterable[TrialRecord]) -> Iterable[TrialRecord]:
    """Return one record per plan key, at the place of the first attempt."""
    return {record.plan.key: record for record in records}.values()


def _in_order(
    checks: dict[str, list[TrialRecord]], place: dict[str, int]
) -> tuple[CheckTrials, ...]:
    def first_place(records: list[TrialRecord]) -> int:
        return min(place.get(bare_nodeid(record.nodeid), len(place)) for record in records)

    return tuple(
        CheckTrials(tuple(sorted(records, key=lambda record: record.plan.trial)))
        for records in sorted(checks.values(), key=first_place)
    )
