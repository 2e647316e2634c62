"""Records put in order: one entry per trial, grouped by check and model.

Summary and gate both start here, so that they cannot disagree on what a trial is worth.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial
from pytest_agentlimit.runs.ladders import Climb, climb_of
from pytest_agentlimit.runs.records import SCORED, CheckPlan, RunData, TrialRecord
from pytest_agentlimit.runs.stopping import Stop, needed_trials


@dataclass(frozen=True)
class Evidence:
    """What the trials of a check are worth to an interval; passes may be a fraction."""

    passes: float
    trials: float


@dataclass(frozen=True)
class CheckTrials:
    """The trials of one check on one model, in trial order, never empty."""

    records: tuple[TrialRecord, ...]
    callers: int = 1
    """The concurrency that was declared for the endpoint."""
    missing: tuple[int, ...] = ()
    """Trials that were collected and needed, and have no record."""

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
        """Milliseconds of every scored trial that may be a sample; +inf after a timeout."""
        return [
            found
            for record in self.scored
            if (found := record.latency) is not None and self._is_sample(record)
        ]

    @property
    def left_out(self) -> int:
        """How many measured trials are no sample: other calls than declared were under way."""
        return sum(r.latency is not None and not self._as_declared(r) for r in self.scored)

    @property
    def cold(self) -> int:
        """How many more are no sample: the server loaded the model while they ran."""
        return sum(
            r.latency is not None and self._as_declared(r) and not self._is_sample(r)
            for r in self.scored
        )

    def _is_sample(self, record: TrialRecord) -> bool:
        """A timeout always is: however few calls were under way, a user would have waited."""
        warm = not any(call.cold for call in record.calls)
        return record.timed_out or (warm and self._as_declared(record))

    def _as_declared(self, record: TrialRecord) -> bool:
        seen = {n for call in record.calls for n in (call.inflight_start, call.inflight_end)}
        return record.timed_out or seen <= {None, self.callers}

    @cached_property
    def climbs(self) -> dict[int, Climb]:
        """By trial, the climbs that began; empty for a check that climbs no ladder."""
        found = {r.plan.trial: climb_of(r.ladder) for r in self.records if r.ladder is not None}
        return {trial: climb for trial, climb in found.items() if climb is not None}

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
    preflight: dict[str, Any] = field(default_factory=dict)
    """What was found out about the endpoint before the first trial; empty: nothing was."""
    checks: tuple[CheckTrials, ...] = ()
    expected: int = 0
    """Collected trials that were needed; at least as many as have a record."""
    stop: Stop | None = None
    """Where the evidence gate ended the run, if it did."""
    callers: int = 1
    """The concurrency that was declared for the endpoint."""

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

    Of several attempts at a trial the last one counts, and nothing after the point where a run
    was decided. Checks stand in the order of their files and lines.
    """
    global _latest
    # Summary, gate, notes and view all start here, with the same run.
    if _latest is None or _latest[0]() is not data:
        _latest = weakref.ref(data), _model_trials(data)
    return list(_latest[1])


_latest: tuple[weakref.ref[RunData], list[ModelTrials]] | None = None


def _model_trials(data: RunData) -> list[ModelTrials]:
    names = [entry.name for entry in data.manifest.models]
    needed = needed_trials(data, lambda record: expected_trial(record.nodeid, names))
    everything = not needed.stops and not needed.flips
    by_model: dict[str, dict[str, list[TrialRecord]]] = {}
    for record in _last_attempts(data.records):
        if everything or needed(expected_trial(record.nodeid, names)):
            checks = by_model.setdefault(record.plan.model, {})
            checks.setdefault(record.plan.check, []).append(record)
    place = {trial.nodeid: i for i, trial in enumerate(data.expected)}
    entries = {entry.name: entry for entry in data.manifest.models}
    collected: dict[str, set[str]] = {}
    due: dict[tuple[str, str], set[int]] = {}
    for trial in data.expected:
        if trial.model is not None and trial.trial is not None and needed(trial):
            collected.setdefault(trial.model, set()).add(trial.nodeid)
            due.setdefault((trial.model, trial.stem), set()).add(trial.trial)
    models = []
    for name in dict.fromkeys([*entries, *by_model]):
        checks = by_model.get(name, {})
        seen = {bare_nodeid(r.nodeid) for records in checks.values() for r in records}
        entry = entries.get(name)
        callers = entry.max_inflight if entry else 1
        models.append(
            ModelTrials(
                name=name,
                fingerprint=entry.fingerprint if entry else {},
                preflight=entry.preflight if entry else {},
                checks=tuple(
                    CheckTrials(records, callers, _missing(records, names, due))
                    for records in _in_order(checks, place)
                ),
                expected=len(collected.get(name, set()) | seen),
                stop=needed.stops.get(name),
                callers=callers,
            )
        )
    return models


class NotNeeded(NamedTuple):
    """What an early end left out of one model's run."""

    trials: int
    """Collected trials that are not counted."""
    ran: int
    """Those of them that have a record all the same."""
    rounds: frozenset[int]


def not_needed(data: RunData, model: str) -> NotNeeded:
    """Return what the early end of a run left out of `model`."""
    names = [entry.name for entry in data.manifest.models]
    needed = needed_trials(data, lambda record: expected_trial(record.nodeid, names))
    left_out = {
        trial.nodeid: trial.trial or 0
        for trial in data.expected
        if trial.model == model and not needed(trial)
    }
    ran = {bare_nodeid(record.nodeid) for record in data.records} & left_out.keys()
    return NotNeeded(len(left_out), len(ran), frozenset(left_out.values()))


def needed_and_lost(data: RunData) -> tuple[int, list[str]]:
    """Return how many collected trials were needed, and the node ids of those without a report.

    In collection order.
    """
    names = [entry.name for entry in data.manifest.models]
    needed = needed_trials(data, lambda record: expected_trial(record.nodeid, names))
    due = dict.fromkeys(trial.nodeid for trial in data.expected if needed(trial))
    reported = {bare_nodeid(record.nodeid) for record in data.records}
    return len(due), [nodeid for nodeid in due if nodeid not in reported]


def _last_attempts(records: Iterable[TrialRecord]) -> Iterable[TrialRecord]:
    """Return one record per plan key, at the place of the first attempt."""
    return {record.plan.key: record for record in records}.values()


def _missing(
    records: tuple[TrialRecord, ...], names: list[str], due: dict[tuple[str, str], set[int]]
) -> tuple[int, ...]:
    stem = expected_trial(records[0].nodeid, names).stem
    wanted = due.get((records[0].plan.model, stem), set())
    return tuple(sorted(wanted - {record.plan.trial for record in records}))


def _in_order(
    checks: dict[str, list[TrialRecord]], place: dict[str, int]
) -> list[tuple[TrialRecord, ...]]:
    """Return the checks as they stand in their files.

    Collection order differs between shards and under plugins that shuffle; it is used only where
    a record does not tell its line.
    """

    def first_place(records: list[TrialRecord]) -> tuple[Any, ...]:
        return (min(place.get(bare_nodeid(record.nodeid), len(place)) for record in records),)

    def in_file(records: list[TrialRecord]) -> tuple[Any, ...]:
        plan = records[-1].plan
        return plan.check.partition("::")[0], plan.line, _natural(plan.check)

    known = all(records[-1].plan.line is not None for records in checks.values())
    return [
        tuple(sorted(records, key=lambda record: record.plan.trial))
        for records in sorted(checks.values(), key=in_file if known else first_place)
    ]


def _natural(text: str) -> list[tuple[int, str]]:
    """Return what sorts `x[2]` before `x[10]`."""
    parts = re.split(r"(\d+)", text)
    return [(int(part) if number % 2 else -1, part) for number, part in enumerate(parts)]
