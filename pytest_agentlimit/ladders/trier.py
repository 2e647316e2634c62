"""One trial of a climb: a fresh agent, a fresh instance, and what came of it in one record."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from pytest_agentlimit.agents.agent import SEEDS, Agent, Sender, Shape
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    ExpectationFailed,
    UsageProblem,
)
from pytest_agentlimit.ladders.base import Attempt, failed
from pytest_agentlimit.ladders.climb import AttemptProblem, Rung
from pytest_agentlimit.measure.latency import waiting_time
from pytest_agentlimit.text import one_line

Ask = Callable[[Agent, int, random.Random], object]
"""A ladder, or a function of the user's own: agent, level and generator to bool or Attempt."""


class Trier:
    """Makes the trials of one climb; safe to call from several threads.

    `seed` is that of the check's trial: an instance follows from the ladder's name, the level and
    the number of the trial. A trial slower than `budget_ms` (milliseconds of waiting on the model)
    fails with the mode timeout, and so does one that still wants to ask after `limit_s`.
    """

    def __init__(
        self,
        ask: Ask,
        client: Sender,
        *,
        name: str,
        model: str,
        shape: Shape,
        seed: int,
        limit_s: float,
        budget_ms: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ask, self._client, self._clock = ask, client, clock
        self._name, self._model, self._shape = name, model, shape
        self._seed, self._limit_s, self._budget_ms = seed, limit_s, budget_ms
        self._over = threading.Event()

    def stop(self) -> None:
        """Let no trial that is still under way ask anything more."""
        self._over.set()

    def __call__(self, level: int, number: int) -> Rung:
        """Return trial `number`, at `level`; raises AttemptProblem when the attempt is broken."""
        line = _Line(self._client, self._clock, self._limit_s, self._over)
        seed = random.Random(f"{self._seed}:{number}").randrange(SEEDS)
        agent = Agent(line, shape=self._shape, seed=seed, name=self._model)
        rng = random.Random(f"{self._name}:{level}:{seed}")
        try:
            attempt = self._attempt(agent, level, number, rng)
        except EndpointError as error:
            evidence = _ended_by(error)
            if evidence is None:
                return _infra(number, level, error, line.waited_ms)
            attempt = evidence
        return self._rung(number, level, self._within_budget(attempt, line.waited_ms), line)

    def _attempt(self, agent: Agent, level: int, number: int, rng: random.Random) -> Attempt:
        where = f"trial {number}, at level {level}"
        try:
            came = self._ask(agent, level, rng)
        except (EndpointError, UsageProblem):
            raise
        except AssertionError as error:
            blame = error.blame if isinstance(error, ExpectationFailed) else "model"
            said = str(error) or "an assertion of the attempt does not hold"
            came = failed("wrong_final", said).model_copy(update={"blame": blame})
        except Exception as error:
            raise AttemptProblem(
                f"the attempt raised {type(error).__name__} in {where}: "
                f"{one_line(str(error), 300)}. Next: mend it; assert what the model must do, and "
                "let errors of endpoints pass"
            ) from error
        attempt = _as_attempt(came, where)
        if not attempt.passed and agent.tool_errors:
            tool, raised = agent.tool_errors[0]
            raise AttemptProblem(
                f"the tool {one_line(tool, 80)} raised {one_line(raised, 300)} in {where}, which "
                "failed: the model may not be why. Next: mend the tool; for what a model may get "
                "wrong it should raise ToolProblem"
            )
        return attempt

    def _within_budget(self, attempt: Attempt, waited_ms: float | None) -> Attempt:
        budget = self._budget_ms
        if not attempt.passed or budget is None or waited_ms is None or waited_ms <= budget:
            return attempt
        late = f"done, but after {waited_ms / 1000:.1f} s; the budget is {budget / 1000:g} s"
        changes = {"passed": False, "mode": "timeout", "detail": late, "blame": "engine"}
        return attempt.model_copy(update=changes)

    def _rung(self, number: int, level: int, attempt: Attempt, line: _Line) -> Rung:
        return Rung(
            number=number,
            level=level,
            outcome="passed" if attempt.passed else "failed",
            mode=attempt.mode,
            blame=None if attempt.passed else attempt.blame,
            detail=attempt.detail,
            latency_ms=line.waited_ms,
            transcript="" if attempt.passed else attempt.transcript,
            measures=attempt.measures,
        )


class _Line:
    """The client of one trial: times its calls, and sends none when its time is over."""

    def __init__(
        self,
        client: Sender,
        clock: Callable[[], float],
        limit_s: float,
        over: threading.Event,
    ) -> None:
        self._client, self._clock, self._over = client, clock, over
        self._ends = clock() + limit_s
        self._limit_s = limit_s
        self._calls: list[tuple[float, float]] = []

    @property
    def waited_ms(self) -> float | None:
        """Milliseconds spent waiting on the model, None without a call (METHOD 4)."""
        return 1000 * waiting_time(self._calls) if self._calls else None

    def send(self, request: ChatRequest) -> ChatReply:
        """Return the reply; DeadlineExceeded when the time of the trial is used up."""
        if self._over.is_set():
            raise AttemptProblem("the climb is over: this attempt should have ended before")
        if self._clock() > self._ends:
            raise DeadlineExceeded(
                f"the trial was not done after {self._limit_s:g} s", kind="slow", blame="engine"
            )
        begun = self._clock()
        try:
            reply = self._client.send(request)
        except EndpointError:
            self._calls.append((begun, self._clock()))
            raise
        ended = self._clock()
        # Not from `begun`: a call may have stood in line before it was sent.
        self._calls.append((max(begun, ended - reply.timing.total_s), ended))
        return reply


def _infra(number: int, level: int, error: EndpointError, waited_ms: float | None) -> Rung:
    """Return a trial that is no evidence, and by what it was ended."""
    return Rung(
        number=number,
        level=level,
        outcome="infra",
        mode="transport_error",
        blame=error.blame,
        detail=one_line(str(error), 400),
        latency_ms=waited_ms,
    )


def _ended_by(error: EndpointError) -> Attempt | None:
    """Return the failure that a failed call is, None when it is no evidence about the level."""
    if isinstance(error, DeadlineExceeded):
        return failed("timeout", str(error)).model_copy(update={"blame": error.blame})
    if error.kind == "context_overflow":
        return failed("context_overflow", str(error)).model_copy(update={"blame": "config"})
    return None


def _as_attempt(came: Any, where: str) -> Attempt:
    if isinstance(came, Attempt):
        return came
    if came is True:
        return Attempt(passed=True)
    if came is False:
        return failed("wrong_final", "the attempt returned False")
    raise AttemptProblem(
        f"the attempt returned {one_line(repr(came), 80)} in {where}; it returns True or False, "
        "or an Attempt. Next: add a return statement to every branch"
    )
