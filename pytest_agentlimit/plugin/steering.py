"""Decides during a run what need not run any more; the decisions go on the board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.stopping import evidence_stop, first_flip, rounds_due

if TYPE_CHECKING:
    from pytest_agentlimit.runs.records import ExpectedTrial, GateSettings, TrialRecord

    from .board import Board


class Steering:
    """Looks at complete rounds (METHOD 3) and, when classifying, at each check (METHOD 2)."""

    def __init__(
        self, board: Board, models: Iterable[str], gate: GateSettings, *, classify: bool
    ) -> None:
        self._board = board
        self._models = tuple(models)
        self._bar = gate.min_score if gate.early_stop else None
        self._classify = classify
        self._due: dict[str, Counter[int]] = {}
        self._done: dict[str, Counter[int]] = {}
        self._checks: dict[str, dict[str, dict[int, TrialRecord]]] = {}
        """Model to check to trial number."""

    def expect(self, trials: Iterable[ExpectedTrial]) -> None:
        """Take the trials that were collected."""
        for model, rounds in rounds_due(trials).items():
            self._due.setdefault(model, Counter()).update(rounds)

    def take(self, record: TrialRecord) -> None:
        """Take the record of a trial that will not be run again."""
        model, number = record.plan.model, record.plan.trial
        stem = expected_trial(record.nodeid, self._models).stem
        trials = self._checks.setdefault(model, {}).setdefault(stem, {})
        done = self._done.setdefault(model, Counter())
        done[number] += number not in trials
        trials[number] = record
        if self._classify:
            self._look_at_check(model, stem)
        elif self._bar is not None and done[number] >= self._due[model][number]:
            self._look_at_rounds(model, self._bar)

    def _look_at_check(self, model: str, stem: str) -> None:
        flip = first_flip(self._checks[model][stem].values())
        if flip is not None and stem not in self._board.flips.setdefault(model, {}):
            self._board.flips[model][stem] = flip
            self._board.publish()

    def _look_at_rounds(self, model: str, bar: float) -> None:
        if model in self._board.stops:
            return
        records = [r for trials in self._checks[model].values() for r in trials.values()]
        stop = evidence_stop(records, self._due[model], bar)
        if stop is not None:
            self._board.stops[model] = stop.round
            self._board.publish()
