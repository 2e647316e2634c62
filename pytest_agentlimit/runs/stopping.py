"""When a run may end before its last round, and which trials that leaves out.

The decision is a pure function of the records of complete rounds. So a run with many workers, one
that was killed and resumed, and one that was merged all come to the same round, and trials that
ran before the decision reached their worker do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

from pytest_agentlimit.measure.evidence import EvidenceGate, for_threshold
from pytest_agentlimit.runs.records import SCORED, ExpectedTrial, RunData, TrialRecord

Key = tuple[str, int]
"""A check and the number of its trial, on one model."""


class Stop(NamedTuple):
    """The evidence gate's decision on one model (METHOD 3)."""

    round: int
    """The last round that counts, 1-based."""
    verdict: Literal["pass", "fail"]


class Needed(NamedTuple):
    """Which trials of a run count: up to a round of a model, up to a trial of a check."""

    stops: dict[str, Stop]
    flips: dict[tuple[str, str], int]
    """(model, stem of the node id) to the trial of the first flip."""

    def __call__(self, trial: ExpectedTrial) -> bool:
        """Return whether `trial` counts."""
        if trial.model is None or trial.trial is None:
            return True
        stop = self.stops.get(trial.model)
        if stop is not None and trial.trial > stop.round:
            return False
        return trial.trial <= self.flips.get((trial.model, trial.stem), trial.trial)


def needed_trials(data: RunData, of: Callable[[TrialRecord], ExpectedTrial]) -> Needed:
    """Return which trials of a run count; `of` gives the trial of a record.

    All do, unless the run was one that may stop early or that classifies.
    """
    settings, purpose = data.manifest.gate, data.manifest.purpose
    if purpose != "classify" and not (settings.early_stop and settings.min_score):
        return Needed({}, {})
    records = {record.plan.key: record for record in data.records}.values()
    if purpose == "classify":
        return Needed({}, _flips((of(record), record) for record in records))
    by_model: dict[str, list[TrialRecord]] = {}
    for record in records:
        by_model.setdefault(record.plan.model, []).append(record)
    bar = settings.min_score or 0.0
    due = rounds_due(data.expected)
    found = {
        model: stop
        for model, those in by_model.items()
        if (stop := evidence_stop(those, due.get(model, Counter()), bar)) is not None
    }
    return Needed(found, {})


def rounds_due(expected: Iterable[ExpectedTrial]) -> dict[str, Counter[int]]:
    """Return per model how many trials each round has."""
    due: dict[str, Counter[int]] = {}
    for trial in expected:
        if trial.model is not None and trial.trial is not None:
            due.setdefault(trial.model, Counter())[trial.trial] += 1
    return due


def evidence_stop(records: Iterable[TrialRecord], due: Counter[int], bar: float) -> Stop | None:
    """Return where the evidence gate ends a model's run, None while it is undecided.

    `records` hold one record a trial; `due` says how many each round has; `bar` is the score to
    reach, 0..1.
    """
    rounds: dict[int, list[TrialRecord]] = {}
    for record in records:
        rounds.setdefault(record.plan.trial, []).append(record)
    return EvidenceLooks(bar).look(lambda number: rounds.get(number, ()), due)


class EvidenceLooks:
    """The evidence gate over the rounds of one model, each looked at once.

    It looks after each complete round in which every check has a trial, and never inside one. A
    pass ends no run with blockers: each of their trials could still fail the gate.
    """

    def __init__(self, bar: float) -> None:
        self._bar = bar
        self._gate: EvidenceGate | None = None
        self._outputs: dict[str, _Outputs] = {}
        self._next = 1

    def look(
        self, of_round: Callable[[int], Collection[TrialRecord]], due: Counter[int]
    ) -> Stop | None:
        """Return the decision when the rounds that are complete by now hold one."""
        if not 0 < self._bar < 1:
            return None
        # The last round is no early end: a run of full length is judged by its interval.
        while due[self._next + 1] and due[self._next] == due[1] == len(of_round(self._next)):
            stop = self._look_at(of_round(self._next))
            self._next += 1
            if stop is not None:
                return stop
        return None

    def _look_at(self, records: Collection[TrialRecord]) -> Stop | None:
        if self._gate is None:
            bad, good = for_threshold(self._bar)
            heaviest = max(record.plan.weight for record in records)
            self._gate = EvidenceGate(bad, good, max_weight=heaviest or 1)
        for record in records:
            outputs = self._outputs.setdefault(record.plan.check, _Outputs())
            for passed in outputs.take(record):
                self._gate.add(passed, record.plan.weight)
        self._gate.end_round()
        verdict = self._gate.verdict
        if verdict == "pass" and any(record.plan.blocker for record in records):
            return None  # a score may be sure after two rounds, a blocker is tried in all of them
        return Stop(self._next, verdict) if verdict in ("pass", "fail") else None


class _Outputs:
    """The outputs of one check so far: byte-identical ones are one trial (METHOD 1)."""

    def __init__(self) -> None:
        self._first: tuple[str | None, ...] | None = None
        self._waiting: list[bool] = []
        self._differ = False

    def take(self, record: TrialRecord) -> list[bool]:
        """Return the outcomes that count from now on, `record`'s own among them or not."""
        if record.outcome not in SCORED:
            return []
        passed = record.outcome == "passed"
        if self._differ or record.outcome == "crashed":
            return [passed]
        output = tuple(call.output_digest for call in record.calls)
        known = bool(output) and None not in output
        if self._first is None and known:
            self._first = output
            return [passed]
        if known and output == self._first:
            self._waiting.append(passed)
            return []
        self._differ = True
        return [*self._waiting, passed]


def _flips(trials: Iterable[tuple[ExpectedTrial, TrialRecord]]) -> dict[tuple[str, str], int]:
    by_check: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial, record in trials:
        by_check.setdefault((record.plan.model, trial.stem), []).append(record)
    return {key: at for key, those in by_check.items() if (at := first_flip(those)) is not None}


def first_flip(records: Iterable[TrialRecord]) -> int | None:
    """Return the number of the trial that first differs from the ones before it, None so far.

    `records` are the trials of one check. A trial after a gap does not count yet.
    """
    seen: set[bool] = set()
    by_number = {record.plan.trial: record for record in records}
    number = 1
    while number in by_number:
        if by_number[number].outcome in SCORED:
            seen.add(by_number[number].outcome == "passed")
        if len(seen) == 2:
            return number
        number += 1
    return None
