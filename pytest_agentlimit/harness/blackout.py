"""The blackout drill: the primary fails, and an agent works on behind our bridge (PROTOCOLS R23).

In each row a server on this machine stands in for the primary and has one fault. In front of it and
the real fallbacks stands the bridge with its fallback chain, and behind the bridge an agent works
on small tasks with tools. What is shown holds for our bridge: a program that chooses its fallbacks
itself may do otherwise (PROTOCOLS, findings 8 and 9).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.rules import estimated_tokens
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.drill import (
    BUDGET_S,
    FAULTS,
    Warm,
    others_of,
    tokens_of,
    useful_s,
    warmed,
)
from pytest_agentlimit.endpoints.fallback import shortfall
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange

from .blackout_result import Blackout, Control, Row
from .blackout_stage import PASSED_OVER, blackout, not_answered, primary_of
from .blackout_tasks import LEAK, draw_tasks
from .blackout_work import Patient, work_on

_RESERVE = 0.02
"""The share of a budget that is kept for ending what is under way."""


def longest_s(fallbacks: int, budget_s: float) -> float:
    """Return the seconds that a drill takes at most, give or take the closing of connections."""
    return (fallbacks + 1 + len(FAULTS)) * budget_s


def impatient(own: Deadlines, budget_s: float) -> tuple[Deadlines, dict[str, float]]:
    """Return deadlines of a third of the budget at most, and those of `own` that exceeded it.

    A primary that may be silent for longer than the budget would never be given up within it.
    """
    third = round(budget_s / 3, 3)
    cut = {name: value for name, value in own if value > third}
    return own.model_copy(update=dict.fromkeys(cut, third)), cut


def run_blackout(
    chain: Sequence[EndpointSpec],
    *,
    budget_s: float = BUDGET_S,
    seed: int | None = None,
    tell: Callable[[Warm | Control | Row], None] = lambda found: None,
) -> Blackout:
    """Return how the fallbacks of `chain` carry an agent's work through each fault of its first.

    The first model itself is never asked; embedded fallbacks must have been started. `tell` is
    called with each result as it comes. No row, no control and no warm call takes longer than
    `budget_s` seconds. Ctrl-C ends the drill: what was measured until then is returned. Raises
    UsageProblem without a fallback, or for one that cannot be sent anything.
    """
    drill = _Drill(chain, budget_s, Random(seed), tell)
    try:
        stopped = not drill.run()
    except KeyboardInterrupt:
        stopped = True
    return drill.result(stopped)


class _Drill:
    """A drill under way."""

    def __init__(
        self,
        chain: Sequence[EndpointSpec],
        budget_s: float,
        rng: Random,
        tell: Callable[[Warm | Control | Row], None],
    ) -> None:
        self._fallbacks, self._notes = others_of(chain)
        deadlines, self._cut = impatient(chain[0].deadlines, budget_s)
        self._primary = chain[0].model_copy(update={"deadlines": deadlines})
        self._budget_s = budget_s
        self._rng = rng
        self._tell = tell
        self._tasks = draw_tasks(rng)
        self._warm: list[Warm] = []
        self._control: Control | None = None
        self._rows: list[Row] = []

    def result(self, stopped: bool) -> Blackout:
        """Return what was measured so far."""
        return Blackout(
            primary=self._primary.name,
            fallbacks=tuple(spec.name for spec in self._fallbacks),
            budget_s=self._budget_s,
            deadlines=self._primary.deadlines,
            cut=self._cut,
            notes=self._notes,
            warm=tuple(self._warm),
            control=self._control,
            rows=tuple(self._rows),
            stopped=stopped,
        )

    def run(self) -> bool:
        """Measure everything, in order; False when Ctrl-C ended a part of it."""
        for spec in self._fallbacks:
            self._warm.append(warmed(spec, self._budget_s))
            self._tell(self._warm[-1])
        well = (
            spec for spec, one in zip(self._fallbacks, self._warm, strict=True) if not one.problem
        )
        first = next(well, self._fallbacks[0])
        self._control = control = self._alone(first)
        self._tell(control)
        if control.stopped:
            return False
        for fault in FAULTS if control.useful_s is not None else ():
            self._rows.append(self._row(fault, first, control))
            self._tell(self._rows[-1])
            if self._rows[-1].stopped:
                return False
        return True

    def _alone(self, spec: EndpointSpec) -> Control:
        """Return how one fallback does the tasks without a bridge."""
        exchanges: list[Exchange] = []
        with open_client(_plain(spec), exchanges.append) as client:
            clock = _Clock(self._budget_s)
            worked = work_on(Patient(client, clock.left_s), self._tasks, self._rng)
            total_s = clock.passed_s()
        useful = next((clock.of(one) for one in exchanges if _works(one)), None)
        return Control(
            fallback=spec.name,
            tasks=len(self._tasks),
            finished=worked.finished,
            useful_s=useful,
            total_s=total_s,
            problems=worked.problems,
            stopped=worked.stopped,
        )

    def _row(self, fault: str, first: EndpointSpec, control: Control) -> Row:
        exchanges: list[Exchange] = []
        patience = Deadlines(
            first_byte_s=self._budget_s, between_chunks_s=self._budget_s, total_s=self._budget_s
        )
        with (
            open_client(_plain(first), exchanges.append) as client,
            blackout(fault, self._primary, self._fallbacks, client, patience) as stage,
        ):
            clock = _Clock(self._budget_s)
            worked = work_on(Patient(stage.client, clock.left_s), self._tasks, self._rng)
            total_s = clock.passed_s()
        seen = sorted(stage.seen, key=lambda one: one.started)
        useful = _first_of_fallbacks(exchanges, seen)
        return Row(
            fault=fault,
            carried=0 < control.finished <= worked.finished and not worked.stopped,
            tasks=len(self._tasks),
            finished=worked.finished,
            noticed=_noticed(seen),
            served_by=useful.name if useful else None,
            useful_s=clock.of(useful.exchange) if useful else None,
            total_s=total_s,
            requests=len(seen),
            lost_requests=sum(map(not_answered, seen)),
            lost_attempts=sum(map(_lost_attempts, seen)),
            lost_tokens_estimate=_lost_tokens(exchanges, seen),
            problems=worked.problems,
            stopped=worked.stopped,
        )


class _Clock:
    """The time of one row."""

    def __init__(self, budget_s: float) -> None:
        self._began = time.perf_counter()
        self._budget_s = budget_s

    def passed_s(self) -> float:
        """Return the seconds since the row began."""
        return round(time.perf_counter() - self._began, 3)

    def left_s(self) -> float:
        """Return the seconds of the budget that are left for calls."""
        return self._began + (1 - _RESERVE) * self._budget_s - time.perf_counter()

    def of(self, exchange: Exchange) -> float:
        """Return the second in which an exchange brought its first text or tool call."""
        assert exchange.reply is not None
        tail_s = exchange.reply.timing.total_s - useful_s(exchange.reply)
        return round(exchange.ended - tail_s - self._began, 3)


class _Served(NamedTuple):
    """A reply, and whose it was."""

    exchange: Exchange
    name: str


def _plain(spec: EndpointSpec) -> EndpointSpec:
    """Return `spec` without retries of its client: the agent repeats requests itself."""
    return spec.model_copy(update={"retries": 0})


def _works(exchange: Exchange) -> bool:
    """Return True for a reply an agent can go on with."""
    return exchange.reply is not None and shortfall(exchange.reply, exchange.request) is None


def _first_of_fallbacks(exchanges: Sequence[Exchange], seen: Sequence[Seen]) -> _Served | None:
    """Return the first reply of use that a fallback gave."""
    primary = primary_of(seen)
    for exchange in filter(_works, exchanges):
        last = [one for one in seen if one.started <= exchange.ended][-1]
        if last.record.served_by not in (None, primary):
            return _Served(exchange, str(last.record.served_by))
    return None


def _noticed(seen: Sequence[Seen]) -> str | None:
    """Return what the primary's first failure was called."""
    primary = primary_of(seen)
    attempts = (one for each in seen for one in each.record.attempts if one.name == primary)
    return next((one.kind for one in attempts if one.kind is not None), None)


def _lost_attempts(seen: Seen) -> int:
    return sum(one.kind is not None and one.kind not in PASSED_OVER for one in seen.record.attempts)


def _lost_tokens(exchanges: Sequence[Exchange], seen: Sequence[Seen]) -> int:
    """Return about how many tokens had come of replies that no agent could go on with."""
    broken = sum(tokens_of(one.record.received) for one in seen if not_answered(one))
    useless = sum(tokens_of(one.reply) for one in exchanges if one.reply and not _works(one))
    held_back = sum(one.kind == "leaked_call" for each in seen for one in each.record.attempts)
    return broken + useless + held_back * estimated_tokens(len(LEAK))
