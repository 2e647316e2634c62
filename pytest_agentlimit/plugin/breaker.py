"""The circuit breaker: when an endpoint is gone, the trials that are left are not tried one by one.

Three trials in a row that could not reach the endpoint make the controller look for itself. Only
when the endpoint stays away are its other trials given up: a server that restarts costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentlimit.runs.records import TrialRecord

    from .board import Board

IN_A_ROW = 3
_SIGNS = frozenset({"refused", "unreachable", "connect_timeout", "cut_stream", "hung"})
"""Kinds of errors that a dead endpoint causes; a live one may cause some of them too."""


class Breaker:
    """Counts lost trials of each model; `why_gone` looks at the endpoint of a model.

    `why_gone(model)` returns None for an endpoint that answers, else one clause that says what is
    wrong with it. It may take some seconds.
    """

    def __init__(self, board: Board, why_gone: Callable[[str], str | None]) -> None:
        self._board = board
        self._why_gone = why_gone
        self._lost: Counter[str] = Counter()

    def take(self, record: TrialRecord) -> None:
        """Take the record of a trial; after too many lost ones in a row, look at the endpoint."""
        model = record.plan.model
        lost = any(call.error_kind in _SIGNS for call in record.calls)
        self._lost[model] = self._lost[model] + 1 if lost else 0
        if self._lost[model] < IN_A_ROW or model in self._board.gone:
            return
        self._lost[model] = 0
        self._board.in_doubt.append(model)
        self._board.publish()
        why = self._why_gone(model)
        self._board.in_doubt.remove(model)
        if why is not None:
            self._board.gone[model] = why
        self._board.publish()
