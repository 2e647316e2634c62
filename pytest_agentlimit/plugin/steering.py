"""Decides during a run what need not run any more; the decisions go on the board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.stopping import EvidenceLooks, first_flip, rounds_due

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
        self._rounds: dict[str, dict[int, dict[str, TrialRecord]]] = {}
        """Model to round to check."""
        self._checks: dict[tuple[str, str], dict[int, TrialRecord]] = {}
        """Model and check to trial number."""
        self._looks: dict[str, EvidenceLooks] = {}

    def expect(self, trials: Iterable[ExpectedTrial]) -> None:
        """Take the trials that were collected."""
        for model, rounds in rounds_due(trials).items():
            self._due.setdefault(model, Counter()).update(rounds)

    def take(self, record: TrialRecord) -> None:
        """Take the record of a trial that will not be run again."""
        if self._classify:
            self._take_of_check(record)
        elif self._bar is not None and record.plan.model not in self._board.stops:
            self._take_of_round(record, self._bar)

    def _take_of_check(self, record: TrialRecord) -> None:
        model, check = record.plan.model, expected_trial(record.nodeid, self._models).stem
        trials = self._checks.setdefault((model, check), {})
        trials[record.plan.trial] = record
        flip = first_flip(trials.values())
        if flip is not None and check not in self._board.flips.setdefault(model, {}):
            self._board.flips[model][check] = flip
            self._board.publish()

    def _take_of_round(self, record: TrialRecord, bar: float) -> None:
        model, number = record.plan.model, record.plan.trial
        rounds = self._rounds.setdefault(model, {})
        those = rounds.setdefault(number, {})
        those[record.plan.check] = record
        due = self._due.get(model, Counter())
        if len(those) < due[number]:
            return
        looks = self._looks.setdefault(model, EvidenceLooks(bar))
        stop = looks.look(lambda number: rounds.get(number, {}).values(), due)
        if stop is not None:
            self._board.stops[model] = stop.round
            self._board.publish()
